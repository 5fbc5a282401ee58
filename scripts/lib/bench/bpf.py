"""The few things of bpf(2) that the bench needs: small XDP programs, their links, and frames sent by a test run.

The programs are put together instruction by instruction, so that no compiler is needed. Linux; needs CAP_BPF and
CAP_NET_ADMIN in the first user namespace, so root.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

# Numbers of bpf(2) in the system call tables of the architectures.
BPF_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
# Commands, program types, verdicts: linux/bpf.h; modes: linux/if_link.h.
PROG_LOAD, PROG_TEST_RUN, LINK_CREATE = 5, 10, 28
PROG_TYPE_XDP, ATTACH_XDP = 6, 37
TEST_XDP_LIVE_FRAMES = 1 << 1
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
MODES = {"generic": 1 << 1, "native": 1 << 2}
GET_RANDOM = 7  # the helper bpf_get_prandom_u32

# Opcodes: class, size or operation, and where the source is, in one byte (RFC 9669, section 3).
LOAD32, LOAD16 = 0x61, 0x69
STORE32, STORE16, STORE16_REGISTER = 0x62, 0x6A, 0x6B
MOVE, MOVE_REGISTER, ADD, ADD_REGISTER, SUBTRACT_REGISTER, AND = 0xB7, 0xBF, 0x07, 0x0F, 0x1F, 0x57
TO_BIG_ENDIAN = 0xDC
JUMP_GREATER_REGISTER, JUMP_NOT_EQUAL, CALL, EXIT = 0x2D, 0x55, 0x85, 0x95


def instruction(opcode, target=0, source=0, offset=0, constant=0):
    """One instruction, 8 bytes; target and source are numbers of registers."""
    registers = target | source << 4 if sys.byteorder == "little" else target << 4 | source
    return struct.pack("=BBhi", opcode, registers, offset, constant)


def verdict(action):
    """Ends a program."""
    return [instruction(MOVE, 0, constant=action), instruction(EXIT)]


def store_mac(register, offset, mac):
    """Writes a MAC address, 6 bytes, into the frame."""
    high, low = struct.unpack("=iH", mac)
    return [instruction(STORE32, register, offset=offset, constant=high),
            instruction(STORE16, register, offset=offset + 4, constant=low)]


def with_frame(register, length, then, otherwise):
    """`then` runs with the frame's start in a register if the frame has so many bytes, else `otherwise` does."""
    return [
        instruction(LOAD32, 3, 1, offset=4),  # struct xdp_md: data, data_end
        instruction(LOAD32, register, 1, offset=0),
        instruction(MOVE_REGISTER, 4, register),
        instruction(ADD, 4, constant=length),
        instruction(JUMP_GREATER_REGISTER, 4, 3, offset=len(then)),
        *then,
        *otherwise,
    ]


def call(command, attributes):
    """bpf(2); returns what it returns, raises OSError."""
    number = BPF_CALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(ctypes.c_long(number), ctypes.c_long(command),
                         ctypes.create_string_buffer(attributes, len(attributes)), ctypes.c_long(len(attributes)))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def load(instructions):
    """An XDP program in the kernel, as a file descriptor."""
    code = ctypes.create_string_buffer(b"".join(instructions))
    licence = ctypes.create_string_buffer(b"BSD")
    head = struct.pack("=IIQQ", PROG_TYPE_XDP, len(instructions), ctypes.addressof(code), ctypes.addressof(licence))
    return call(PROG_LOAD, head.ljust(72, b"\0"))


def attach(program, interface, mode):
    """The link of program and interface, as a file descriptor; the kernel detaches when that is closed."""
    index = socket.if_nametoindex(interface)
    return call(LINK_CREATE, struct.pack("=IIII", program, index, ATTACH_XDP, MODES[mode]).ljust(48, b"\0"))


def send_until_signal(program, interface, frame, batch):
    """The program gets the frame again and again, `batch` at a time; with XDP_TX, `interface` sends it.

    Returns when a signal arrives (or after four thousand million frames); the signal needs a handler.
    """
    octets = ctypes.create_string_buffer(frame, len(frame))
    index = socket.if_nametoindex(interface)
    context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(frame), 0, index, 0, 0), 24)
    attributes = struct.pack("=IIIIQQIIIIQQIII", program, 0, len(frame), 0, ctypes.addressof(octets), 0, 0xFFFFFFFF, 0,
                             len(context), 0, ctypes.addressof(context), 0, TEST_XDP_LIVE_FRAMES, 0, batch)
    try:
        call(PROG_TEST_RUN, attributes.ljust(80, b"\0"))
    except InterruptedError:
        pass


def address_of(interface):
    """The MAC address of an interface, 6 bytes."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind((interface, 0))
        return packets.getsockname()[4]


def mac_bytes(text):
    """`02:00:00:00:00:01` as 6 bytes."""
    return bytes.fromhex(text.replace(":", ""))
