-- For wrk: GET of one of COUNT things at PATH_BEFORE .. number .. SUFFIX, at random, each thread with numbers of its own; with DELAY_MS each
-- connection waits that long between two requests. Prints a line of JSON at the end.
local before, first, count, delay_ms = os.getenv("PATH_BEFORE"), tonumber(os.getenv("FIRST")), tonumber(os.getenv("COUNT")), tonumber(os.getenv("DELAY_MS"))
local after = os.getenv("SUFFIX")
local threads = 0

function setup(thread)
  thread:set("seed", threads)
  threads = threads + 1
end

function init()
  math.randomseed(seed)
end

function request()
  return wrk.format("GET", before .. (count > 1 and math.random(first, first + count - 1) or "") .. after)
end

if delay_ms > 0 then
  function delay()
    return math.random(0, 2 * delay_ms)
  end
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  print(string.format('JSON {"requests": %d, "us": %d, "errors": %d, "p50": %.3f, "p99": %.3f, "max": %.3f}', summary.requests, summary.duration, failed,
                      latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
