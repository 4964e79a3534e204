"""`python -m proofs.prober HOST PORT`: ask for /healthz twenty times a second, as a load balancer does; prints seconds, a line each."""

import http.client
import sys
import time

EVERY = 0.05  # seconds
LONGEST = 30.0  # seconds


def main(host: str, port: int) -> None:
    """Ask until the standard input ends."""
    while True:
        begin = time.monotonic()
        connection = http.client.HTTPConnection(host, port, timeout=LONGEST)
        try:
            connection.request("GET", "/healthz")
            ok = connection.getresponse().status == http.client.OK
        except OSError:
            ok = False
        finally:
            connection.close()
        seconds = time.monotonic() - begin
        print(seconds if ok else LONGEST, flush=True)
        time.sleep(max(0.0, EVERY - seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
