"""Subjects, their embeddings and their templates in one SQLite database; every change is one transaction."""

import contextlib
import errno
import itertools
import os
import sqlite3
import threading

import numpy as np

from keras_normface._io import LockedError, printable, regular_file
from keras_normface.gallery._records import SHOWN_LETTERS, Records, faults_of, matrix, one_line, pooled

MAGIC, HEAD_BYTES, APPLICATION_AT = b"SQLite format 3\0", 100, 68
APPLICATION, VERSION = 0x6B6E6647, 1
SECONDS_TO_WAIT = 30
LARGEST_DIMENSION, MOST_CHANGES = 1 << 20, 1 << 62
PAGE_BYTES = 16384  # several vectors of 512 numbers fit
# Compared with what a file holds, so that one with a trigger or a view of somebody's is refused.
SCHEMA = {
    ("table", "gallery"): """CREATE TABLE gallery (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    fingerprint TEXT NOT NULL,
    model TEXT NOT NULL,
    dimension INTEGER,
    changes INTEGER NOT NULL,
    erase INTEGER NOT NULL)""",
    ("table", "subject"): "CREATE TABLE subject (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)",
    ("table", "template"): """CREATE TABLE template (
    subject INTEGER PRIMARY KEY REFERENCES subject (id) ON DELETE CASCADE,
    changed INTEGER NOT NULL,
    vector BLOB NOT NULL)""",
    ("table", "embedding"): """CREATE TABLE embedding (
    id INTEGER PRIMARY KEY,
    subject INTEGER NOT NULL REFERENCES subject (id) ON DELETE CASCADE,
    image TEXT NOT NULL,
    digest BLOB NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (subject, digest))""",
    ("index", "template_changed"): "CREATE INDEX template_changed ON template (changed)",
}
# Counts of rows that this package does not write.
ODD = {
    "template are of a change that was not made": "SELECT count(*) FROM template, gallery WHERE NOT "
    "(typeof(changed) = 'integer' AND changed BETWEEN 1 AND changes)",
    "subject have a name that is not text": "SELECT count(*) FROM subject WHERE typeof(name) != 'text'",
    "embedding have a value of another type": "SELECT count(*) FROM embedding WHERE typeof(image) != 'text' "
    "OR typeof(digest) != 'blob' OR typeof(vector) != 'blob'",
}
# Of SQLite itself.
OWN = {
    ("table", "sqlite_sequence"): "CREATE TABLE sqlite_sequence(name,seq)",
    ("table", "sqlite_stat1"): "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    ("table", "sqlite_stat4"): "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}


class Database(Records):
    """One connection; any thread may use it. `fingerprint` and `model` are written into a file that is new."""

    def __init__(self, path, fingerprint, model):
        super().__init__(os.path.abspath(path), fingerprint)
        self._lock, self._depth = threading.RLock(), 0
        self._is_written_anew = False  # since the last removal
        if os.path.lexists(self.path):
            self._check_head()
        elif fingerprint is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        else:
            # Faces are nobody else's business; the files that SQLite puts beside it get the same mode.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._named():
            self._connection = sqlite3.connect(
                self.path, timeout=SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(fingerprint, model)
                self._identity = self._identity_of_path()
                self._erase_is_due = bool(self._one("SELECT max(erase) FROM gallery", (int | None,))[0])
                self.head()
            except BaseException:
                self._connection.close()
                raise

    def _check_head(self):
        """Refuse what is no gallery by its first bytes: SQLite would change what it opens."""
        with regular_file(self.path) as file:
            head = file.read(HEAD_BYTES)
        if head and not head.startswith(MAGIC):
            raise ValueError(f"{printable(self.path)} is not a gallery: it is not an SQLite database")
        if head and int.from_bytes(head[APPLICATION_AT : APPLICATION_AT + 4], "big") != APPLICATION:
            raise ValueError(f"{printable(self.path)} is not a gallery: it is a database of another program")

    def _identity_of_path(self):
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def close(self):
        """Close the connection."""
        with self._lock:
            self._connection.close()
            self._process = None

    def _prepare(self, fingerprint, model):
        for pragma in ("trusted_schema=OFF", "foreign_keys=ON", "secure_delete=ON", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        found = self._schema()
        if not found:
            if fingerprint is None:
                raise ValueError(f"{printable(self.path)} is not a gallery: it is empty")
            self._connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._create(fingerprint, model)
            found = self._schema()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise ValueError(f"{printable(self.path)} is a gallery of version {version}; version {VERSION} is read")
        if found != SCHEMA:
            raise ValueError(f"{printable(self.path)} is not a gallery: it holds other tables")
        # After the tables, so that the first bytes of the file itself say what it is. Another that is just opening it
        # may be in the way, and does it too.
        self._wait(0)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        finally:
            self._wait(SECONDS_TO_WAIT)

    def _wait(self, seconds):
        self._connection.execute(f"PRAGMA busy_timeout={int(1000 * seconds)}").fetchall()

    def _schema(self):
        rows = self._connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {(kind, name): sql for kind, name, sql in rows if OWN.get((kind, name)) != sql}

    def _create(self, fingerprint, model):
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._schema():  # another process may have been faster
                for statement in SCHEMA.values():
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO gallery VALUES (1, ?, ?, NULL, 0, 0)", (fingerprint, model))
                self._connection.execute(f"PRAGMA application_id={APPLICATION}")
                self._connection.execute(f"PRAGMA user_version={VERSION}")
            self._connection.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _rollback(self):
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _named(self):
        """SQLite's errors as those of Python, with the file's name."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _as_os_error(error, self.path) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its messages hold text of the file
            raise self.corrupt(error) from error

    def check_usable(self):
        """Refuse what is closed, of another process, or another file than was opened."""
        super().check_usable()
        if self._identity != self._identity_of_path():
            raise OSError(errno.ESTALE, "The gallery was removed or replaced while it was open", self.path)

    @contextlib.contextmanager
    def _transaction(self, begin, counted=False):
        with self._lock, self._named():
            if self._depth:  # within another of this thread
                yield self._connection
                return
            self.check_usable()
            self._depth += 1
            try:
                self._connection.execute(begin)
                yield self._connection
                if counted:
                    self._connection.execute("UPDATE gallery SET changes = changes + 1")
                self._connection.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
            finally:
                self._depth -= 1
            if counted and self._erase_is_due:
                self.erase()

    def reading(self):
        """Context in which all that is read is of one moment; gives the connection."""
        return self._transaction("BEGIN")

    def writing(self):
        """Context in which all that is written is there afterwards, or nothing is; gives the connection."""
        return self._transaction("BEGIN IMMEDIATE", counted=True)

    def erase(self):
        """Overwrite what was deleted, and cut the log; `False` if another process, or the disk, hinders that now."""
        with self._lock, self._named():
            self._erase_is_due = True
            try:
                if not self._is_written_anew:
                    # Pages that were split keep copies that no deletion overwrites.
                    self._connection.execute("VACUUM")
                    self._is_written_anew = True
                self._wait(0)
                if self._log_is_kept():
                    return False
                # Not before: until the log is cut, whoever opens the file must know that it is to be.
                self._connection.execute("UPDATE gallery SET erase = 0")
                self._log_is_kept()
            except sqlite3.OperationalError:
                return False
            finally:
                self._wait(SECONDS_TO_WAIT)
            self._erase_is_due = False
            return True

    def _log_is_kept(self):
        """Write the log into the file and cut it; `True` if another process keeps that from happening."""
        return bool(self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    def _select(self, query, types, *values):
        """Yield rows, each column of the type that it must have: files are not always written by this package."""
        # An open cursor would keep a closed connection, and its locks, alive.
        with contextlib.closing(self._connection.execute(query, values)) as rows:
            for row in rows:
                if len(row) != len(types) or not all(map(isinstance, row, types)):
                    raise self.corrupt("a value is of another type")
                yield row

    def _one(self, query, types, *values):
        """The first row, or `None`."""
        return next(iter(list(self._select(query, types, *values))), None)

    def head(self):
        """Fingerprint, name of the model, dimension or `None`, number of changes so far."""
        with self.reading():
            found = self._one(
                "SELECT fingerprint, model, dimension, changes FROM gallery WHERE id = 1",
                (str, str, int | None, int),
            )
        fits = found is not None and 0 <= found[3] < MOST_CHANGES
        if not fits or not 1 <= (1 if found[2] is None else found[2]) <= LARGEST_DIMENSION:
            raise self.corrupt("its description is missing or corrupt")
        return found

    def subjects(self):
        """List of (name, number of embeddings), by name."""
        query = """SELECT name, count(embedding.id) FROM subject LEFT JOIN embedding ON embedding.subject = subject.id
                   GROUP BY subject.id ORDER BY name"""
        with self.reading():
            return list(self._select(query, (str, int)))

    def count(self):
        """Number of subjects."""
        with self.reading():
            return self._one("SELECT count(*) FROM subject", (int,))[0]

    def number_of(self, name):
        """Number of a subject, or `None`."""
        with self.reading():
            found = self._one("SELECT id FROM subject WHERE name = ?", (int,), name)
        return None if found is None else found[0]

    def names(self):
        """Names of all subjects, in the order of enrolment."""
        with self.reading():
            return [name for (name,) in self._select("SELECT name FROM subject ORDER BY id", (str,))]

    def is_at(self, path):
        """Whether `path` is that of the file."""
        return os.path.exists(path) and os.path.samefile(path, self.path)

    def names_of(self, numbers):
        """Numbers of subjects → their names."""
        with self.reading():
            return [self._name_of(number) for number in numbers]

    def _name_of(self, number):
        found = self._one("SELECT name FROM subject WHERE id = ?", (str,), number)
        if found is None:
            raise self.corrupt("a template is of no subject")
        return found[0]

    def known_digests(self, name):
        """Digests of the images that are enrolled for a subject, who need not exist."""
        query = "SELECT digest FROM embedding JOIN subject ON subject.id = embedding.subject WHERE name = ?"
        with self.reading():
            return {digest for (digest,) in self._select(query, (bytes,), name)}

    def _set_dimension(self, dimension):
        self._connection.execute("UPDATE gallery SET dimension = ?", (dimension,))

    def _introduce(self, names):
        for name in names:
            self._connection.execute("INSERT OR IGNORE INTO subject (name) VALUES (?)", (name,))
        return {name: self.number_of(name) for name in names}

    def _insert(self, entries, numbers):
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT OR IGNORE INTO embedding (subject, image, digest, vector) VALUES (?, ?, ?, ?)",
            [(numbers[name], image, digest, vector.tobytes()) for name, image, digest, vector in entries],
        )
        return self._connection.total_changes - before

    def _pool(self, numbers):
        """Make templates of subjects anew: the mean of the unit embeddings, at unit length."""
        _, _, dimension, changes = self.head()
        for name, number in numbers.items():
            rows = self._select("SELECT vector FROM embedding WHERE subject = ? ORDER BY id", (bytes,), number)
            vector = pooled(matrix([row for (row,) in rows], dimension, self.path), name)
            replace = "INSERT OR REPLACE INTO template VALUES (?, ?, ?)"
            self._connection.execute(replace, (number, changes + 1, vector.tobytes()))

    def bind(self, fingerprint, model):
        """Give a gallery in which nothing was ever stored to another model; `False` if something was."""
        with self.writing() as connection:
            if self.head()[3]:
                return False
            connection.execute("UPDATE gallery SET fingerprint = ?, model = ?, changes = -1", (fingerprint, model))
            return True

    def remove(self, find):
        """Delete the subjects that `find()` gives the numbers of; `False` if they are not yet overwritten."""
        with self.writing() as connection:
            connection.executemany("DELETE FROM subject WHERE id = ?", [(number,) for number in find()])
            connection.execute("UPDATE gallery SET erase = 1")
            self._erase_is_due = self._is_written_anew = False  # as soon as this is committed
        return self.erase()

    def merge(self, find, name):
        """Of two subjects, the numbers `find()` gives, the second, called `name`, gets what the first has."""
        with self.writing() as connection:
            number, into = find()
            connection.execute("UPDATE OR IGNORE embedding SET subject = ? WHERE subject = ?", (into, number))
            connection.execute("DELETE FROM subject WHERE id = ?", (number,))
            self._pool({name: into})

    def changed_templates(self, since):
        """Yield parts of (numbers (n,) int64, vectors (n, dim) float32) changed after `since`, by number."""
        # Of all of them the index would only be in the way.
        column = "changed" if since else "+changed"
        query = f"SELECT subject, vector FROM template WHERE {column} > ? ORDER BY subject"  # noqa: S608
        with self.reading(), contextlib.closing(self._select(query, (int, bytes), since)) as rows:
            dimension = self.head()[2]
            while part := list(itertools.islice(rows, self.rows_at_once)):
                numbers, vectors = zip(*part, strict=True)
                yield np.array(numbers, "int64"), matrix(vectors, dimension, self.path)

    def numbers(self):
        """Numbers (N,) int64 of all subjects, rising."""
        with self.reading():
            rows = list(self._select("SELECT subject FROM template ORDER BY subject", (int,)))
        numbers = np.array(rows, "int64").reshape(-1)
        if (np.diff(numbers) <= 0).any():
            raise self.corrupt("its tables are not sorted")
        return numbers

    def embeddings(self):
        """Yield parts of (subjects, names, images, digests, vectors (n, dim) float32) of all embeddings, in order."""
        query = """SELECT subject, name, image, digest, vector FROM embedding
                   JOIN subject ON subject.id = embedding.subject ORDER BY embedding.id"""
        types = (int, str, str, bytes, bytes)
        with self.reading(), contextlib.closing(self._select(query, types)) as rows:
            dimension = self.head()[2]
            while part := list(itertools.islice(rows, self.rows_at_once)):
                numbers, names, images, digests, vectors = zip(*part, strict=True)
                yield numbers, names, images, digests, matrix(vectors, dimension, self.path)

    def faults(self):
        """What is wrong with the file, in words; an empty list if nothing is."""
        with self.reading() as connection:
            dimension = self.head()[2]
            lines = connection.execute("PRAGMA integrity_check(20)").fetchall()
            found = [one_line(text) for (text,) in lines if text != "ok"]
            if found:
                return found
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
            found += [f"{table}: row {row} is of no subject" for table, row, *_ in orphans]
            for what, query in ODD.items():
                (count,) = self._one(query, (int,))
                found += [f"{count} rows of {what}"] if count else []
            if found:
                return found
            for number, name in list(self._select("SELECT id, name FROM subject ORDER BY id", (int, str))):
                found += self._faults_of(number, printable(name)[:SHOWN_LETTERS], dimension)
        return found

    def _faults_of(self, number, name, dimension):
        query = "SELECT vector FROM {} WHERE subject = ?"
        vectors, templates = (
            [row for (row,) in self._select(query.format(table), (bytes,), number)]
            for table in ("embedding", "template")
        )
        try:
            rows, template = matrix(vectors, dimension, self.path), matrix(templates, dimension, self.path)
        except ValueError as error:
            return [f"{name}: {error}"]
        return faults_of(name, rows, template)


def _as_os_error(error, path):
    text = one_line(error)
    if "readonly" in text:
        return OSError(errno.EACCES, f"{text}; SQLite writes beside a file that it reads", path)
    for words, number in (("full", errno.ENOSPC), ("I/O", errno.EIO)):
        if words in text:
            return OSError(number, text, path)
    if "locked" in text or "busy" in text:
        return LockedError(f"{printable(path)} is in use by another process: for {SECONDS_TO_WAIT} s it was {text}")
    if "unable to open" in text:
        return OSError(errno.EACCES, text, path)
    return ValueError(f"{printable(path)} is not a valid gallery: {text}")
