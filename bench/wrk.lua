-- Makes the requests of a file, over and over, each thread its own share of them.
--
-- Arguments, after wrk's `--`: the file, whose lines are `path TAB signature TAB body`, a GET where the body is empty;
-- wrk's threads; requests per second of each thread, or 0 for a closed loop, in which a connection asks again once it
-- is answered.
--
-- A rate is kept by one schedule for all connections of a thread: exponential gaps, as among senders who do not know
-- of each other. Whichever connection is free takes the next moment of it, at once if that is past. So deliveries come
-- as if from outside until every connection waits for an answer; those that are late by then follow at once. wrk
-- waits in whole milliseconds: a part of one is rounded up as often as it is large.

local made = 0

function setup(thread)
  thread:set("index", made)
  made = made + 1
end

function init(args)
  local threads, rate = tonumber(args[2]), tonumber(args[3])
  requests, posted = read(args[1], threads), 0
  if rate > 0 then
    delay = schedule(rate)
  end
end

function request()
  posted = posted + 1
  return requests[(posted - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'measured {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50": %.3f, "p99": %.3f, "p999": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3
  ))
end

-- Requests of every line that is this thread's, ready to be sent.
function read(file, threads)
  local found, number = {}, 0
  for line in io.lines(file) do
    if number % threads == index then
      local path, signature, body = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
      local headers = { ["Content-Type"] = "application/json", ["X-NexusProMail-Signature"] = signature }
      if body == "" then
        found[#found + 1] = wrk.format("GET", path)
      else
        found[#found + 1] = wrk.format("POST", path, headers, body)
      end
    end
    number = number + 1
  end
  return found
end

-- A function that says in how many ms the next delivery is due.
function schedule(rate)
  local now = clock()
  local due
  return function()
    due = (due or now()) - math.log(1 - math.random()) / rate
    return math.max(0, math.floor((due - now()) * 1000 + math.random()))
  end
end

-- A function that says the time in seconds; Lua itself knows none below a second.
function clock()
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long seconds; long micros; } moment; int gettimeofday(moment *now, void *zone);")
  local found = ffi.new("moment")
  return function()
    ffi.C.gettimeofday(found, nil)
    return tonumber(found.seconds) + tonumber(found.micros) / 1e6
  end
end
