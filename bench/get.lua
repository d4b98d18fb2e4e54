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

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "summary.lua")
