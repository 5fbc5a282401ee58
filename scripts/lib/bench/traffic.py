"""Both ends of what wrk does not do: bulk both ways, connections that stay idle, datagrams. Runs in a host.

    traffic.py serve ADDRESS BULK_PORT UDP_PORT      the server's end of all of them
    traffic.py bulk down|up HOST PORT N SECONDS SERVER BULK_PORT [tls]    SERVER is asked directly what has arrived
    traffic.py idle HOST PORT N [tls]                says so on a line when they are open; ends with its standard input
    traffic.py udp HOST PORT SOCKETS WINDOW SECONDS
    traffic.py first HOST PORT SECONDS [tls]         one new connection after the other, a request over each
    traffic.py seen HOST PORT                        what an HTTP server sees of two connections, two requests each
    traffic.py hello HOST PORT                       what TLS agrees on

Clients print one line of JSON.
"""

import contextlib
import json
import os
import selectors
import socket
import ssl
import sys
import threading
import time

CHUNK = 1 << 20
ORDER = 32  # bytes that a client of bulk sends first: `down`, `up NUMBER`, or `count NUMBER`, padded
STORE = 64 << 20  # bytes that bulk is sent from, again and again
PATIENCE = 10.0  # seconds
REQUEST = b"GET /page HTTP/1.1\r\nHost: server\r\n\r\n"
SEEN = b"GET /seen HTTP/1.1\r\nHost: server\r\n\r\n"
DATAGRAM = b"x" * 64
LOST_AFTER = 0.2  # seconds without any reply


def main(words):
    """Runs what is asked for."""
    if words[0] == "serve":
        return serve(words[1], int(words[2]), int(words[3]))
    if words[0] == "bulk":
        measured = bulk(words[1], (words[2], int(words[3])), int(words[4]), float(words[5]),
                        (words[6], int(words[7])), "tls" in words[8:])
    elif words[0] == "idle":
        return idle((words[1], int(words[2])), int(words[3]), "tls" in words[4:])
    elif words[0] == "udp":
        measured = udp((words[1], int(words[2])), int(words[3]), int(words[4]), float(words[5]))
    elif words[0] == "first":
        measured = first((words[1], int(words[2])), float(words[3]), "tls" in words[4:])
    elif words[0] == "seen":
        measured = seen((words[1], int(words[2])))
    else:
        measured = hello((words[1], int(words[2])))
    print(json.dumps(measured), flush=True)
    return 0


# --- the server

def serve(address, bulk_port, udp_port):
    """Until it is killed."""
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    echo.bind((address, udp_port))
    threading.Thread(target=echo_datagrams, args=(echo,), daemon=True).start()
    store = os.memfd_create("bulk")
    for _ in range(STORE // CHUNK):
        os.write(store, os.urandom(CHUNK))
    arrived = Arrived()
    with socket.create_server((address, bulk_port), backlog=1024) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_bulk, args=(connection, store, arrived), daemon=True).start()


def echo_datagrams(echo):
    """Sends each back."""
    buffer = bytearray(2048)
    while True:
        length, sender = echo.recvfrom_into(buffer)
        with contextlib.suppress(OSError):
            echo.sendto(memoryview(buffer)[:length], sender)


def serve_bulk(connection, store, arrived):
    """Sends until the client goes; or counts what it sends, to be asked for over another connection."""
    with connection, contextlib.suppress(OSError):
        order = b""
        while len(order) < ORDER:
            piece = connection.recv(ORDER - len(order))
            if not piece:
                return
            order += piece
        word, _, number = order.decode().strip().partition(" ")
        if word == "down":
            while True:
                offset = 0
                while offset < STORE:
                    offset += os.sendfile(connection.fileno(), store, offset, STORE - offset)
        elif word == "up":
            arrived.begin(number)
            try:
                discard(connection, None, lambda length: arrived.add(number, length))
            finally:
                arrived.end(number)
        else:
            connection.sendall(b"%d" % arrived.whole(number))


class Arrived:
    """Bytes of each upload."""

    def __init__(self):
        self.bytes, self.ended, self.change = {}, set(), threading.Condition()

    def begin(self, number):
        """It comes."""
        self.bytes[number] = 0

    def add(self, number, length):
        """More of it; called by one thread an upload."""
        self.bytes[number] += length

    def end(self, number):
        """It has ended, whichever way."""
        with self.change:
            self.ended.add(number)
            self.change.notify_all()

    def whole(self, number):
        """Its bytes, when it has ended; -1 if it does not end."""
        with self.change:
            ended = self.change.wait_for(lambda: number in self.ended, PATIENCE / 2)
        return self.bytes.get(number, 0) if ended else -1


# --- clients

def client_context():
    """TLS settings; whoever answers is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connected(target, context):
    """A connection, over TLS if there are settings for it."""
    connection = socket.create_connection(target, PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(connection) if context else connection


def discard(connection, until, count):
    """Reads to the end or to that time, and tells each length. Of plain TCP nothing is copied (tcp(7), MSG_TRUNC)."""
    buffer = bytearray(CHUNK)
    plain = not isinstance(connection, ssl.SSLSocket)
    while until is None or time.monotonic() < until:
        length = connection.recv_into(buffer, CHUNK, socket.MSG_TRUNC) if plain else connection.recv_into(buffer)
        if not length:
            break
        count(length)


def bulk(direction, target, number, seconds, server, tls):
    """Over so many connections at once: bytes that arrived, seconds."""
    lengths, broken = [], []
    context = client_context() if tls else None
    connections = [connected(target, context) for _ in range(number)]
    begin = time.monotonic()
    until = begin + seconds

    def load(connection):
        if direction == "down":
            connection.sendall(b"down".ljust(ORDER))
            discard(connection, until, lengths.append)
            connection.close()
            return
        upload = f"{os.getpid()}.{connection.fileno()}"
        connection.sendall(f"up {upload}".encode().ljust(ORDER))
        piece = os.urandom(CHUNK)
        while time.monotonic() < until:
            connection.sendall(piece)
        connection.close()
        with connected(server, None) as other:
            other.sendall(f"count {upload}".encode().ljust(ORDER))
            length = int(other.recv(64))
        if length < 0:
            broken.append("the end of an upload does not reach the server")
        lengths.append(length)

    threads = [threading.Thread(target=load, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise RuntimeError(broken[0])
    return {"count": sum(lengths), "seconds": time.monotonic() - begin}


def idle(target, number, tls):
    """One request over each of so many connections, which then stay."""
    connections = []
    context = client_context() if tls else None
    for _ in range(number):
        connection = connected(target, context)
        connection.sendall(REQUEST)
        if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("no page came")
        connections.append(connection)
    print(json.dumps({"count": len(connections)}), flush=True)
    sys.stdin.read()
    return 0


def first(target, seconds, tls):
    """Microseconds from the wish to connect to the first byte of the answer: median, and what 99 % did not exceed."""
    context = client_context() if tls else None
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not took:
        begin = time.perf_counter()
        with connected(target, context) as connection:
            connection.sendall(REQUEST)
            answer = connection.recv(65536)
            took.append((time.perf_counter() - begin) * 1e6)
        if not answer:
            raise RuntimeError("no page came")
    took.sort()
    return {"count": len(took), "seconds": seconds, "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def udp(target, number, window, seconds):
    """Each of so many sockets keeps so many datagrams on their way: replies, seconds, datagrams lost."""
    selector = selectors.DefaultSelector()
    clients = []
    for _ in range(number):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(target)
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
        clients.append(client)
    replies = sent = 0
    begin = time.monotonic()

    def send(client, count):
        nonlocal sent
        for _ in range(count):
            with contextlib.suppress(OSError):
                client.send(DATAGRAM)
            sent += 1

    ready = []
    while time.monotonic() < begin + seconds:
        if not ready:
            for client in clients:
                send(client, window)
        for key, _ in ready:
            count = 0
            with contextlib.suppress(OSError):
                while count < window:
                    key.fileobj.recv(2048)
                    count += 1
            replies += count
            send(key.fileobj, count)
        ready = selector.select(LOST_AFTER)
    elapsed = time.monotonic() - begin
    return {"count": replies, "seconds": elapsed, "lost": max(0, sent - replies - number * window)}


def seen(target):
    """X-Forwarded-For of four requests as the server had it, "" for none, and which of its connections they came by.

    Two over a connection, one after the other, then two over another one, the second sent with the first.
    """
    headers, ways = [], []
    for pipelined in (False, True):
        with connected(target, None) as connection, connection.makefile("rb") as answers:
            for number in range(2):
                if not (pipelined and number):
                    connection.sendall(SEEN * (2 if pipelined else 1))
                length = 0
                while line := answers.readline().strip().lower():
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                header, _, way = answers.read(length).decode().rpartition(" ")
                headers.append(header)
                ways.append(way)
    return {"headers": headers, "ways": ways}


def hello(target):
    """Version and cipher."""
    with connected(target, client_context()) as connection:
        return {"version": connection.version(), "cipher": connection.cipher()[0]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
