-- Asks the questions of a file, over and over.
--
-- Arguments, after wrk's `--`: the method, the path, and the file. Each line of it is the end of the path of a GET, or
-- the body of a POST. One thread of wrk asks; a connection asks again once it is answered.

function init(args)
  local method, path = args[1], args[2]
  local headers = { ["Content-Type"] = "application/json" }
  requests, asked = {}, 0
  for line in io.lines(args[3]) do
    if method == "GET" then
      requests[#requests + 1] = wrk.format("GET", path .. line)
    else
      requests[#requests + 1] = wrk.format(method, path, headers, line)
    end
  end
end

function request()
  asked = asked + 1
  return requests[(asked - 1) % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'measured {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
  ))
end
