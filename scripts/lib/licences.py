"""Checks the licences of all packages that are built in against the list `allow` of deny.toml.

    licences.py DENY_TOML CARGO

A cheap part of what cargo-deny does: it believes what the packages say of themselves.
"""

import json
import re
import subprocess
import sys

TARGETS = ["x86_64-unknown-linux-gnu", "x86_64-unknown-freebsd"]


def list_in(text, key):
    """The strings of `key = [...]` in a TOML file that keeps to such lists."""
    found = re.search(rf"^{key}\s*=\s*\[(.*?)^\]", text, re.M | re.S)
    if not found:
        sys.exit(f"licences: no list `{key}` in deny.toml")
    lines = [line.split("#")[0] for line in found.group(1).splitlines()]
    return set(re.findall(r'"([^"]+)"', "\n".join(lines)))


def acceptable(expression, allowed):
    """Whether an SPDX expression can be met by allowed licences. `WITH` belongs to its licence's name."""
    words = re.findall(r"[()/]|[^\s()/]+", expression)
    words = ["OR" if word == "/" else word for word in words]

    def any_of(i):
        result, i = all_of(i)
        while i < len(words) and words[i] == "OR":
            right, i = all_of(i + 1)
            result = result or right
        return result, i

    def all_of(i):
        result, i = one(i)
        while i < len(words) and words[i] == "AND":
            right, i = one(i + 1)
            result = result and right
        return result, i

    def one(i):
        if words[i] == "(":
            result, i = any_of(i + 1)
            if words[i] != ")":
                raise ValueError(expression)
            return result, i + 1
        name, i = words[i], i + 1
        if i < len(words) and words[i] == "WITH":
            name, i = f"{name} WITH {words[i + 1]}", i + 2
        return name in allowed, i

    try:
        result, end = any_of(0)
    except (IndexError, ValueError):
        return False
    return result and end == len(words)


def packages(cargo):
    found = {}
    for target in TARGETS:
        command = [cargo, "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        for package in json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]:
            found[package["id"]] = package
    return found.values()


def main():
    deny_toml, cargo = sys.argv[1:]
    with open(deny_toml, encoding="utf-8") as file:
        allowed = list_in(file.read(), "allow")
    every = list(packages(cargo))
    refused = 0
    for package in every:
        expression = package["license"] or "no licence given"
        if not acceptable(expression, allowed):
            print(f"{package['name']} {package['version']}: {expression}: not allowed by {deny_toml}")
            refused += 1
    print(f"{len(every)} packages, {refused} with a licence that is not allowed")
    return 1 if refused or not every else 0


if __name__ == "__main__":
    sys.exit(main())
