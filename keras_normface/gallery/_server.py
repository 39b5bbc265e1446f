"""A gallery's place in a PostgreSQL server: connections, transactions, errors, and tables in a schema of their own.

Imported only where a gallery is a URL: it needs SQLAlchemy, psycopg and pgvector.
"""

import contextlib
import errno
import threading

import sqlalchemy as sa
from pgvector.psycopg.vector import register_vector_info
from pgvector.sqlalchemy import VECTOR
from psycopg import Error as DriverError
from psycopg.types import TypeInfo
from sqlalchemy.dialects import postgresql

from keras_normface._io import LockedError, printable
from keras_normface.gallery._records import Records, one_line

VERSION = 1
SCHEMA, LONGEST_SCHEMA = "keras_normface", 63
EXTENSION = "vector"
DRIVERS = ("postgresql", "postgresql+psycopg", "postgres")
SHOWN_OPTIONS = ("host", "port", "service")
LOCK_OF_CREATION = 0x6B6E6647
SECONDS_TO_CONNECT, SECONDS_TO_WAIT, SECONDS_IDLE = 10, 30, 300
# Unless the URL says otherwise; and not what the environment says of the encoding.
CONNECTION = {
    "connect_timeout": SECONDS_TO_CONNECT,
    "application_name": "keras-normface",
    "client_encoding": "utf8",
}
SETTINGS = sa.text(
    "SELECT set_config('search_path', :home, true), set_config('jit', 'off', true), "
    "set_config('lock_timeout', :wait, true), "
    "set_config('idle_in_transaction_session_timeout', CASE WHEN :writing THEN :idle "
    "ELSE current_setting('idle_in_transaction_session_timeout') END, true)"
)
# Names and types of columns; `vector` has its dimension once there is one.
COLUMNS = sa.text("""
    SELECT relname, attname, split_part(format_type(atttypid, atttypmod), '(', 1), attnotnull FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = :schema AND relname = ANY(:names) AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped""")
HOME = sa.text(
    "SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = :name"
)
MISSING, DENIED, FULL, LOCKED = ("42P01", "42703", "3F000"), ("42501", "25006", "28000", "28P01"), "53100", "55P03"
LOST = ("08", "57P", "53")  # how the states begin


class Vectors(VECTOR):
    """Vectors as pgvector's `Vector`, which the driver sends as float32 numbers, not as text."""

    cache_ok = True

    def bind_processor(self, dialect):
        """There is none."""


class Server(Records):
    """One schema of a database; any thread may use it. `fingerprint` and `model` are written into one that is new."""

    def __init__(self, url, fingerprint, model):
        url, schema, shown = parsed(url)
        super().__init__(shown, fingerprint)
        self._schema, self._home, self._local = schema, None, threading.local()
        self._define(sa.MetaData(schema=sa.sql.quoted_name(schema, True)))
        self._engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=CONNECTION | {key: value for key, value in url.query.items() if key in CONNECTION},
        )
        try:
            with self._named():
                self._prepare(fingerprint, model)
            self.head()
        except BaseException:
            self._engine.dispose()
            raise

    def _define(self, metadata):
        """The tables. Names have no limit, so that the index holds their SHA-256."""
        key = sa.BigInteger
        self._gallery = sa.Table(
            "gallery",
            metadata,
            sa.Column("id", sa.SmallInteger, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("fingerprint", sa.Text, nullable=False),
            sa.Column("model", sa.Text, nullable=False),
            sa.Column("dimension", sa.Integer),
            sa.Column("changes", sa.BigInteger, nullable=False),
        )
        self._subject = sa.Table(
            "subject",
            metadata,
            sa.Column("id", key, sa.Identity(), primary_key=True),
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("sha256", sa.LargeBinary, nullable=False, unique=True),
        )
        of_subject = sa.ForeignKey(self._subject.c.id, ondelete="CASCADE")
        self._template = sa.Table(
            "template",
            metadata,
            sa.Column("subject", key, of_subject, primary_key=True, autoincrement=False),
            sa.Column("vector", Vectors, nullable=False),
        )
        self._embedding = sa.Table(
            "embedding",
            metadata,
            sa.Column("id", key, sa.Identity(), primary_key=True),
            sa.Column("subject", key, sa.ForeignKey(self._subject.c.id, ondelete="CASCADE"), nullable=False),
            sa.Column("image", sa.Text, nullable=False),
            sa.Column("digest", sa.LargeBinary, nullable=False),
            sa.Column("vector", Vectors, nullable=False),
            sa.UniqueConstraint("subject", "digest"),
        )
        self._metadata = metadata

    def close(self):
        """Close the connections."""
        self._engine.dispose()
        self._process = None

    def is_at(self, path):
        """Whether `path` is that of a file in which it is stored."""
        return False

    def _prepare(self, fingerprint, model):
        with self._connected(writing=False) as connection:
            self._check_encoding(connection)
            found = self._found(connection)
        if not found:
            if fingerprint is None:
                raise FileNotFoundError(errno.ENOENT, "There is no gallery", self.path)
            with self._connected(writing=True) as connection:
                self._create(connection, fingerprint, model)
            with self._connected(writing=False) as connection:
                found = self._found(connection)
        if ("gallery", "version", "integer", True) in found:
            with self._connected(writing=False) as connection:
                version = connection.execute(sa.select(sa.func.max(self._gallery.c.version))).scalar()
            if version not in (None, VERSION):
                raise ValueError(f"{printable(self.path)} is a gallery of version {version}; version {VERSION} is read")
        if found != self._expected_columns():
            raise ValueError(
                f"{printable(self.path)} is not a gallery: the schema {printable(self._schema)} holds other tables"
            )

    def _check_encoding(self, connection):
        encoding = connection.execute(sa.text("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise ValueError(f"{printable(self.path)} must be a database in UTF8. Received: one in {encoding}")

    def _expected_columns(self):
        dialect = postgresql.dialect()
        return {
            (table.name, column.name, column.type.compile(dialect=dialect).lower(), not column.nullable)
            for table in self._metadata.tables.values()
            for column in table.columns
        }

    def _found(self, connection):
        """Columns that there are in tables of our names; and where the extension is."""
        self._home = connection.execute(HOME, {"name": EXTENSION}).scalar()
        self._set(connection, writing=False)  # types are shown without their schema if it is searched
        names = [table.name for table in self._metadata.tables.values()]
        return {tuple(row) for row in connection.execute(COLUMNS, {"schema": self._schema, "names": names})}

    def _create(self, connection, fingerprint, model):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_OF_CREATION)))
        if self._found(connection):  # another process was faster
            return
        if self._home is None:
            available = sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = :name")
            if not connection.execute(available, {"name": EXTENSION}).scalar():
                raise ValueError(f"{printable(self.path)} is on a server without pgvector: it must be installed there")
            connection.execute(sa.text(f"CREATE EXTENSION {EXTENSION} SCHEMA public"))
            self._found(connection)
        exists = sa.text("SELECT count(*) FROM pg_namespace WHERE nspname = :schema")
        if not connection.execute(exists, {"schema": self._schema}).scalar():
            connection.execute(sa.schema.CreateSchema(sa.sql.quoted_name(self._schema, True)))
        self._metadata.create_all(connection, checkfirst=False)
        values = {"id": 1, "version": VERSION, "fingerprint": fingerprint, "model": model, "changes": 0}
        connection.execute(self._gallery.insert(), values)

    def _set(self, connection, writing):
        """What holds for a transaction: nobody's functions but those of PostgreSQL and pgvector are found."""
        home = "pg_catalog" if self._home is None else '"' + self._home.replace('"', '""') + '"'
        wait, idle = f"{int(1000 * SECONDS_TO_WAIT)}", f"{SECONDS_IDLE}s"
        connection.execute(SETTINGS, {"home": home, "wait": wait, "idle": idle, "writing": writing})

    @contextlib.contextmanager
    def _connected(self, writing):
        with self._engine.connect() as connection:
            level = "READ COMMITTED" if writing else "REPEATABLE READ"
            connection.execution_options(isolation_level=level, postgresql_readonly=not writing)
            with connection.begin():
                self._set(connection, writing)
                yield connection

    @contextlib.contextmanager
    def _transaction(self, writing):
        with self._named():
            held = getattr(self._local, "connection", None)
            if held is not None:  # within another of this thread
                yield held
                return
            self.check_usable()
            with self._connected(writing) as connection:
                self._register(connection)
                self._local.connection = connection
                try:
                    if writing:  # one writer at a time, as in a file
                        connection.execute(sa.select(self._gallery.c.id).with_for_update())
                    yield connection
                    if writing:
                        connection.execute(self._gallery.update().values(changes=self._gallery.c.changes + 1))
                finally:
                    self._local.connection = None

    def _register(self, connection):
        """Tell the driver once for each connection how vectors are sent."""
        if not connection.info.get(EXTENSION):
            driver = connection.connection.driver_connection
            register_vector_info(driver, TypeInfo.fetch(driver, EXTENSION))
            connection.info[EXTENSION] = True

    def reading(self):
        """Context in which all that is read is of one moment; gives the connection."""
        return self._transaction(writing=False)

    def writing(self):
        """Context in which all that is written is there afterwards, or nothing is; gives the connection."""
        return self._transaction(writing=True)

    @contextlib.contextmanager
    def _named(self):
        """Errors of the server and the driver as those of Python, with the URL that has no password."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, DriverError) as error:
            raise self._as_os_error(error) from error

    def _as_os_error(self, error):
        error = getattr(error, "orig", None) or error
        state, text = getattr(error, "sqlstate", None) or "", one_line(error)
        if state == LOCKED:
            shown = printable(self.path)
            return LockedError(f"{shown} is in use by another process: for {SECONDS_TO_WAIT} s it was locked")
        if state == FULL:
            return OSError(errno.ENOSPC, text, self.path)
        if state in DENIED:
            return OSError(errno.EACCES, text, self.path)
        if state in MISSING:
            return self.corrupt(text)
        if not state or state.startswith(LOST):
            return ConnectionError(f"{printable(self.path)} cannot be reached: {text}")
        return OSError(errno.EIO, text, self.path)


def parsed(text):
    """URL → SQLAlchemy's for psycopg, name of the schema, and the URL to be shown, without password and options."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    texts = () if url is None else (url.username, url.password, url.host, url.database)
    odd = any("\0" in (text or "") for text in texts) or "@" in (getattr(url, "host", None) or "")
    if url is None or url.drivername not in DRIVERS or odd:
        # Nothing of it is shown: there may be a password anywhere in it.
        raise ValueError(
            "`path` must be a file, or postgresql://user@host:port/database, in which an @ of a password is %40. "
            "Received: another URL"
        ) from None
    schema = url.query.get("schema", SCHEMA)
    if not isinstance(schema, str) or not 0 < len(schema.encode()) <= LONGEST_SCHEMA or "\0" in schema:
        raise ValueError(f"`path` must have one schema of at most {LONGEST_SCHEMA} bytes. Received: {schema!r}")
    shown = {key: url.query[key] for key in SHOWN_OPTIONS if key in url.query}
    shown |= {"schema": schema} if schema != SCHEMA else {}
    place = (url.username, None, url.host, url.port, url.database)
    shown = sa.URL.create("postgresql", *place, query=shown).render_as_string()
    return url.set(drivername="postgresql+psycopg").difference_update_query(["schema"]), schema, shown
