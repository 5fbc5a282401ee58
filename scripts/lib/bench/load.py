"""The loads: small UDP frames, one iperf3 stream, wrk over HTTP. Each returns what it measured, as numbers."""

import json
import pathlib
import subprocess
import time

import lab

# wrk prints rounded times; its Lua hook has them in microseconds.
WRK_REPORT = """
done = function(summary, latency, requests)
  io.write(string.format('{"requests": %d, "microseconds": %d, "p50": %.1f, "p99": %.1f, "errors": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
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
MARGIN = 0.3  # seconds of flood before the first and after the last reading
HTTP_PORT, IPERF_PORT = 80, 5201


# Ways of small frames: generator's host and interface, where to, receivers. Over the bridge the generator
# sits at the bridge's end of the balancer's cable: the way in would cost it half its rate, and is not measured.
WAYS = {
    "direct": ("client", "eth0", lab.BACKENDS["be1"], lab.BACKEND_MACS["be1"], ["be1"]),
    "bridge": ("sw", "lb", lab.VIP, lab.LB_MAC, list(lab.BACKENDS)),
    "near": (lab.NEAR_GENERATOR, "eth0", lab.VIP, lab.LB_MAC, [lab.NEAR_GENERATOR]),
}


def small_frames(blast, way, seconds, cpu, balancer):
    """Floods one destination with 60-byte frames of 1024 flows, and looks at the counters while the flood lasts.

    Returns forwarded and offered frames per second, and the balancer's CPU time per forwarded frame in ns.
    """
    host, interface, target, mac, receivers = WAYS[way]
    words = [blast, "--interface", interface, "--to", target, "--to-mac", mac, "--seconds", str(seconds + 2 * MARGIN)]

    def reading():
        """Time, frames received, CPU time of the balancer."""
        return time.monotonic(), sum(map(lab.received, receivers)), balancer.cpu_seconds() if balancer else 0.0

    with lab.Program(host, words, cpu) as generator:
        time.sleep(MARGIN)
        begin = reading()
        time.sleep(seconds)
        end = reading()
        generator.process.wait(30)
        offered = json.loads(generator.said())
    elapsed, frames, busy = (after - before for before, after in zip(begin, end))
    measured = {"rate": frames / elapsed, "offered": offered["frames_per_second"]}
    if balancer and frames:
        measured["cpu"] = busy / frames * 1e9
    return measured


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


def wrk(target, seconds, connections, cpu, directory):
    """GET requests over kept-alive connections: requests per second, latency in microseconds."""
    script = pathlib.Path(directory, "report.lua")
    script.write_text(WRK_REPORT)
    done = lab.run("client", "taskset", "-c", str(cpu), "wrk", "-t", "1", "-c", str(connections),
                   "-d", f"{seconds}s", "-s", str(script), f"http://{target}:{HTTP_PORT}/page",
                   check=False, timeout=seconds + 30)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return {"requests": 0.0}
    measured = {"requests": answer["requests"] / answer["microseconds"] * 1e6, "errors": answer["errors"]}
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
