-- wrk: POST /order of one line. Environment: PRODUCTS (1: one product), DELAY_MS (0).
local products = tonumber(os.getenv("PRODUCTS") or "1")
local delay_ms = tonumber(os.getenv("DELAY_MS") or "0")
local headers = { ["Content-Type"] = "application/json" }

local threads = 0

function setup(thread)
  thread:set("seed", os.time() * 64 + threads)     -- no two threads want the same
  threads = threads + 1
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

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")
