-- For wrk's scripts: what they print at the end, a line of JSON that common.py reads.
function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  print(string.format('JSON {"requests": %d, "us": %d, "errors": %d, "p50": %.3f, "p99": %.3f, "max": %.3f}', summary.requests, summary.duration, failed,
                      latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
