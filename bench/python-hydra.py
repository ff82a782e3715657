#!/usr/bin/env python3
"""python-hydra.py list|stat DIR WORKERS: one walk by the Python Hydra, for `bench-run --python-hydra`.

Needs https://github.com/murkyl/hydra in PYTHONPATH (its folder `hydra` is the module). Starts a server and a client
with so many workers on this machine; prints {"entries": N, "seconds": S}, the seconds from when the server says that it
works until it says that it is idle again.
"""

import json
import os
import select
import socket
import sys
import time

import hydra


class Lister(hydra.WorkerClass):
    def handle_file(self, dir, file):
        return True


class Stater(hydra.WorkerClass):
    def handle_file(self, dir, file):
        os.lstat(os.path.join(dir, file))
        return True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(work, path, workers):
    port = free_port()
    server = hydra.ServerProcess(addr="127.0.0.1", port=port, handler=hydra.ServerClass, args={})
    server.start()
    server.send(hydra.Server.EVENT_SUBMIT_WORK, {"paths": [path]})
    time.sleep(0.1)
    handler = Stater if work == "stat" else Lister
    client = hydra.ClientProcess(
        {"svr": "127.0.0.1", "port": port, "handler": hydra.ClientClass, "file_handler": handler}
    )
    client.set_workers(int(workers))
    client.start()
    began = ended = stats = None
    while stats is None:
        select.select([server], [], [])
        said = server.recv()
        if said.get("cmd") == hydra.Server.CMD_SVR_STATE:
            state = said["msg"].get("state")
            if state == hydra.Server.STATE_PROCESSING:
                began = began or time.time()
            elif state == hydra.Server.STATE_IDLE and began:
                ended = time.time()
                server.send(hydra.Server.EVENT_QUERY_STATS, {"data": "individual_clients"})
        elif said.get("cmd") == hydra.Server.CMD_SVR_STATS and ended:
            stats = said["msg"].get("stats")
    server.send(hydra.Server.EVENT_SHUTDOWN)
    for process in (server, client):
        process.join(10)
        process.terminate()
    entries = stats["processed_files"] + stats["processed_dirs"]
    print(json.dumps({"entries": entries, "seconds": ended - began}))


main(*sys.argv[1:])
