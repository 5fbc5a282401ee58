"""The proxies that are compared: how each is told to do the same, as its manual advises for one CPU."""

import dataclasses
import pathlib
import shlex

import cables

PORT = 9000  # of the proxy
HTTP_PORT, BULK_PORT, UDP_PORT = 80, 81, 53  # of the server
CONNECTIONS = 9500  # that each has room for, on both sides

# What a proxy is asked to be.
TCP = "tcp"
HTTP = "http"  # X-Forwarded-For on every request, kept-alive connections to the server
TLS = "tls"  # ended here, plain TCP to the server
H2 = "h2"  # HTTP/2 over TLS, HTTP/1 to the server, otherwise as HTTP
UDP = "udp"


@dataclasses.dataclass(frozen=True)
class Task:
    """A proxy's task: mode, the server's port, and where its files are."""

    mode: str
    server_port: int
    directory: pathlib.Path

    @property
    def server(self):
        """Address and port."""
        return f"{cables.SERVER_ADDRESS}:{self.server_port}"

    @property
    def secure(self):
        """Whether clients come by TLS."""
        return self.mode in (TLS, H2)

    @property
    def http(self):
        """Whether it reads HTTP."""
        return self.mode in (HTTP, H2)

    @property
    def certificate(self):
        """P-256, with its key in the same file."""
        return self.directory / "both.pem"

    def write(self, name, text):
        """Puts a configuration into the directory; its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One proxy. `command` gives its command line for a task."""

    name: str
    colour: str
    # Program that has to be there; its Debian packages.
    program: str = None
    packages: tuple = ()
    modes: tuple = (TCP, HTTP, TLS, H2, UDP)

    def command(self, task):
        """Words of the command line; may write files into the task's directory."""
        raise NotImplementedError


class Direct(Candidate):
    """No proxy: the client goes to the server through the proxy's host, which forwards its packets."""


class Haproxy(Candidate):
    """haproxy with one thread; with splice(2) if `splice`, which takes descriptors for pipes."""

    splice = False
    connections = CONNECTIONS

    def command(self, task):
        """One listener, one server."""
        secure = f" ssl crt {task.certificate}" if task.secure else ""
        alpn = " alpn h2,http/1.1" if task.mode == H2 else ""
        lines = [
            "global", " nbthread 1", f" maxconn {self.connections}",
            "defaults", f" mode {'http' if task.http else 'tcp'}",
            " timeout connect 5s", " timeout client 60s", " timeout server 60s",
            *([" option splice-auto"] if self.splice else []),
            *([" option forwardfor", " option http-keep-alive", " http-reuse always"] if task.http else []),
            "listen all", f" bind :{PORT}{secure}{alpn}", f" server one {task.server}", "",
        ]
        return ["haproxy", "-db", "-f", task.write("haproxy.cfg", "\n".join(lines))]


class HaproxySplice(Haproxy):
    """With `option splice-auto`."""

    splice = True
    connections = 1000


class Nginx(Candidate):
    """nginx with one worker: the stream module for what is not HTTP."""

    MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # where it isn't built in

    def command(self, task):
        """One listener, one upstream."""
        secure = (f" ssl_certificate {task.certificate}; ssl_certificate_key {task.certificate};"
                  " ssl_protocols TLSv1.2 TLSv1.3;") if task.secure else ""
        words = " ssl" * task.secure + " http2" * (task.mode == H2) + " udp" * (task.mode == UDP)
        listen = f"listen {PORT}{words} reuseport;{secure}"
        if task.http:
            temporary = " ".join(f"{kind}_temp_path {task.directory};"
                                 for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            service = f"""http {{ access_log off; {temporary} keepalive_requests 1000000000;
upstream servers {{ server {task.server}; keepalive 512; keepalive_requests 1000000000; }}
server {{ {listen} location / {{ proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}"""
        else:
            upstream = f"upstream servers {{ server {task.server}; }}"
            service = f"stream {{ {upstream} server {{ {listen} proxy_pass servers; }} }}"
        module = f"load_module {self.MODULE};" if self.MODULE.exists() else ""
        text = f"""{module} user root; worker_processes 1; daemon off; error_log stderr error;
pid {task.directory}/proxy.pid; events {{ worker_connections {2 * CONNECTIONS}; }}
{service}
"""
        return ["nginx", "-e", "stderr", "-c", task.write("nginx.conf", text)]


class Pen(Candidate):
    """pen: round robin, so that it keeps no table of clients; epoll is its choice on Linux."""

    def command(self, task):
        """-x: connections; -q: backlog; -m: accepted at a time."""
        words = ["pen", "-f", "-r", "-x", str(CONNECTIONS), "-c", str(CONNECTIONS), "-q", "4096", "-m", "64",
                 "-O", "tcp_nodelay"]
        words += ["-H"] if task.http else []
        words += ["-U"] if task.mode == UDP else []
        words += ["-E", str(task.certificate), "-K", str(task.certificate)] if task.secure else []
        return [*words, f"{cables.PROXY_ADDRESS}:{PORT}", task.server]


@dataclasses.dataclass(frozen=True)
class PenDsr(Candidate):
    """This project's."""

    path: str = "pen-dsr"

    def command(self, task):
        """One loop."""
        words = [self.path, "--threads", "1", "-x", str(CONNECTIONS)]
        words += ["-H"] if task.http else []
        words += ["-U"] if task.mode == UDP else []
        words += ["-E", str(task.certificate), "-K", str(task.certificate)] if task.secure else []
        return [*words, f"{cables.PROXY_ADDRESS}:{PORT}", task.server]


@dataclasses.dataclass(frozen=True)
class Extra(Candidate):
    """A command line of the caller's, with {listen} and {server} for addresses with ports."""

    template: str = ""

    def command(self, task):
        """Its words."""
        listen = f"{cables.PROXY_ADDRESS}:{PORT}"
        return [word.format(listen=listen, server=task.server, certificate=task.certificate)
                for word in shlex.split(self.template)]


DIRECT = Direct("direct", "#9aa5b1")
HAPROXY = Haproxy("haproxy", "#7fb0f5", "haproxy", ("haproxy",), (TCP, HTTP, TLS, H2))
HAPROXY_SPLICE = HaproxySplice("haproxy splice", "#5b95ef", "haproxy", ("haproxy",), (TCP,))
NGINX = Nginx("nginx", "#2f9e6e", "nginx", ("nginx", "libnginx-mod-stream"))
PEN = Pen("pen", "#d9822b", "pen", ("pen",), (TCP, HTTP, TLS, UDP))
PEERS = (HAPROXY, NGINX, PEN)
OURS_NAME, OURS_COLOUR = "pen-dsr", "#1f6feb"
