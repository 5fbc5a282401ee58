"""The loads over TCP: one iperf3 stream, wrk over HTTP. Each returns what it measured, as numbers."""

import json
import pathlib
import subprocess

import lab

# wrk prints rounded times; its Lua hook has them in microseconds, each with the number of requests that took so long.
# At 25 µs a whole microsecond is 4 %: so the median is where in its microsecond it would be if they lay evenly there.
WRK_REPORT = """
local function median(latency, requests)
  local before = 0
  for i = 1, #latency do
    local microseconds, count = latency(i)
    if before + count >= requests / 2 then
      return microseconds + (requests / 2 - before) / count
    end
    before = before + count
  end
  return latency:percentile(50)
end

done = function(summary, latency, requests)
  io.write(string.format('{"requests": %d, "microseconds": %d, "p50": %.1f, "p99": %.1f, "errors": %d}\\n',
    summary.requests, summary.duration, median(latency, summary.requests), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout))
end
"""

NGINX = """
user root;
worker_processes 1;
daemon off;
pid {directory}/{host}.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen 80; root {directory}; }}
}}
"""

PAGE_BYTES = 2048
HTTP_PORT, IPERF_PORT = 80, 5201


def iperf3(target, seconds, cpu):
    """One TCP stream from the client; bits per second that arrived, 0 if no connection came about."""
    try:
        done = lab.run("client", "taskset", "-c", str(cpu), "iperf3", "-J", "-c", target, "-p", str(IPERF_PORT),
                       "-t", str(seconds), "--connect-timeout", "1500", check=False, timeout=seconds + 6)
        return {"bits": json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]}
    except (subprocess.TimeoutExpired, json.JSONDecodeError, KeyError):
        return {"bits": 0.0}


def iperf3_servers(cpu):
    """iperf3 in every backend, as programs to be entered."""
    return [lab.Program(host, ["iperf3", "-s", "-p", str(IPERF_PORT)], cpu) for host in lab.BACKENDS]


def wrk(url, seconds, connections, cpu, directory, headers=(), env=()):
    """GET requests over kept-alive connections: requests per second, latency in microseconds.

    `env` are settings NAME=VALUE for wrk's process.
    """
    script = pathlib.Path(directory, "report.lua")
    script.write_text(WRK_REPORT)
    try:
        done = lab.run("client", "env", *env, "taskset", "-c", str(cpu), "wrk", "-t", "1", "-c", str(connections),
                       "-d", f"{seconds}s", "-s", str(script), *(f"-H{header}" for header in headers), url,
                       check=False, timeout=seconds + 10)
        answer = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, json.JSONDecodeError):
        return {"requests": 0.0}
    measured = {"requests": answer["requests"] / answer["microseconds"] * 1e6, "count": answer["requests"],
                "errors": answer["errors"]}
    if answer["requests"]:
        measured.update(p50=answer["p50"], p99=answer["p99"])
    return measured


def http_servers(cpu, directory):
    """nginx in every backend, as programs to be entered."""
    page = pathlib.Path(directory, "page")
    page.write_bytes(b"x" * PAGE_BYTES)
    programs = []
    for host in lab.BACKENDS:
        config = pathlib.Path(directory, f"{host}.conf")
        config.write_text(NGINX.format(directory=directory, host=host))
        programs.append(lab.Program(host, ["nginx", "-c", str(config), "-e", "stderr"], cpu))
    return programs
