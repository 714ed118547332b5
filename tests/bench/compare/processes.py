"""Programs that are run to their end, or ended."""
import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time


class Failed(Exception):
    """A measurement that did not come about; the text is for people."""


def output_of(command, timeout=900, both=False):
    """Standard output of a program that must succeed; both: with its standard error behind it."""
    command = [str(word) for word in command]
    name = pathlib.Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Failed(f"{name} cannot be run: {error.strerror}: {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{name} had not ended after {timeout} s") from error
    if done.returncode != 0:
        raise Failed(f"{name} {_ending(done.returncode)}: {_tail(done.stderr or done.stdout)}\n  {' '.join(command)}")
    return done.stdout + (done.stderr if both else "")


@contextlib.contextmanager
def running(command, port):
    """A server, started and ended. Gives an object with pid, port and check(), which raises when it has ended."""
    command = [str(word) for word in command]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise Failed(f"{command[0]} cannot be run: {error.strerror}") from error

        def check():
            if process.poll() is not None:
                log.seek(0)
                raise Failed(f"{pathlib.Path(command[0]).name} {_ending(process.returncode)}: {_tail(log.read())}\n"
                             f"  {' '.join(command)}")

        process.port, process.check = port, check
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"process {pid} has no resident memory: it has ended")


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def seconds():
    return time.monotonic()


def _ending(code):
    return f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"


def _tail(text):
    return " | ".join(text.strip().splitlines()[-4:])[-600:] or "it said nothing"
