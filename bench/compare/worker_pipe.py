# SPDX-License-Identifier: Apache-2.0
"""A worker's end of the pipe to peers.Worker: requests come on stdin and replies go out, a line of JSON each. It runs
in each peer's own environment, so it imports nothing but Python."""
import ctypes
import json
import os
import pathlib
import signal
import sys

PR_SET_PDEATHSIG = 1


class Pipe:
    """Made before the peer is loaded; name and folder are the worker's arguments."""

    def __init__(self):
        self.name, self.folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a stopped worker must not stay behind
        self.replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what a peer prints must not mix with the replies

    def reply(self, value):
        print(json.dumps(value), file=self.replies)

    def requests(self):
        """Says that the peer is ready, then gives each request, until there are no more."""
        self.reply({"ready": self.name})
        for line in sys.stdin:
            yield json.loads(line)
