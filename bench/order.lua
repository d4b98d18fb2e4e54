-- wrk: POST /order of one line. Environment: PRODUCTS (1: one product), DELAY_MS (0).
local products = tonumber(os.getenv("PRODUCTS") or "1")
local delay_ms = tonumber(os.getenv("DELAY_MS") or "0")
local headers = { ["Content-Type"] = "application/json" }

function setup(thread)
  math.randomseed(os.time())
  thread:set("seed", math.random(1, 1000000))
end

function init(args)
  math.randomseed(seed)
end

function request()
  local body = string.format('{"customerId": "customer 7", "productId": "product-%d", "quantity": 1}', math.random(0, products - 1))
  return wrk.format("POST", "/order", headers, body)
end

if delay_ms > 0 then
  function delay()
    return math.random() * 2 * delay_ms
  end
end

function done(summary, latency)
  io.write(string.format('JSON {"requests": %d, "us": %d, "errors": %d, "p50": %.3f, "p99": %.3f, "max": %.3f}\n', summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
