"""Subjects, embeddings and templates in PostgreSQL: what `Database` and `FileStorage` do in a file, done by a server.

The server searches with pgvector's operator for inner products, and gives a few templates more than are asked for. They
are scored and ordered here as those of a file, so that the answers are the same, ties included.
"""

import contextlib
import hashlib
import itertools
import operator

import numpy as np
import sqlalchemy as sa
from pgvector import Vector
from sqlalchemy.dialects.postgresql import ARRAY, insert

from keras_normface._io import printable
from keras_normface.gallery._index import TARGET_RECALL
from keras_normface.gallery._records import SHOWN_LETTERS, faults_of, matrix, pooled
from keras_normface.gallery._results import IndexStatus
from keras_normface.gallery._search import ROUNDING, evenly_spread, scores_of
from keras_normface.gallery._server import Server, Vectors

SUBJECTS_AT_ONCE = 4096
MORE = 8  # templates that are fetched beyond those that are asked for
NO_INDEX = "its server has no index"
LARGEST_DIMENSION = 16_000
LARGEST_IN_A_PAGE = 2_000
SUBJECT = operator.itemgetter(0)


class PostgresStorage(Server):
    """A gallery in a schema of a PostgreSQL database, which the server searches."""

    def __init__(self, url, fingerprint, model, index):
        super().__init__(url, fingerprint, model)
        self._may_use_index = index is not None
        own = self._template.c
        distance = own.vector.op("<#>", return_type=sa.Float)(sa.bindparam("probe", type_=Vectors))
        unindexed = distance + sa.literal_column("0")  # no index is for sums
        limit = sa.bindparam("limit", type_=sa.BigInteger)
        furthest = sa.bindparam("furthest", type_=sa.Float)
        near = sa.select(own.subject, own.vector)
        self._by_index, self._exactly, self._within = (
            self._with_names(part)
            for part in (
                near.add_columns(distance.label("distance")).order_by(distance).limit(limit),
                near.add_columns(unindexed.label("distance")).order_by(unindexed).limit(limit),
                near.add_columns(unindexed.label("distance")).where(unindexed <= furthest),
            )
        )

    def head(self):
        """Fingerprint, name of the model, dimension or `None`, number of changes so far."""
        own = self._gallery.c
        with self.reading() as connection:
            found = connection.execute(sa.select(own.fingerprint, own.model, own.dimension, own.changes)).first()
        if found is None:
            raise self.corrupt("its description is missing")
        return tuple(found)

    def subjects(self):
        """List of (name, number of embeddings), by name."""
        subject, embedding = self._subject.c, self._embedding.c
        query = sa.select(subject.name, sa.func.count(embedding.id))
        query = query.outerjoin_from(self._subject, self._embedding).group_by(subject.id)
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(query.order_by(subject.name.collate("C")))]

    def count(self):
        """Number of subjects."""
        with self.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(self._subject)).scalar()

    def names(self):
        """Names of all subjects, in the order of enrolment."""
        with self.reading() as connection:
            return list(connection.execute(sa.select(self._subject.c.name).order_by(self._subject.c.id)).scalars())

    def number_of(self, name):
        """Number of a subject, or `None`."""
        return self._numbers_of([name]).get(name)

    def _numbers_of(self, names):
        """{name: number} of those names that are enrolled."""
        keys = {key_of(name): name for name in names if is_text(name)}
        subject = self._subject.c
        query = sa.select(subject.sha256, subject.id).where(subject.sha256 == any_of(keys, sa.LargeBinary))
        with self.reading() as connection:
            return {keys[bytes(key)]: number for key, number in connection.execute(query)}

    def known_digests(self, name):
        """Digests of the images that are enrolled for a subject, who need not exist."""
        query = sa.select(self._embedding.c.digest).join(self._subject)
        with self.reading() as connection:
            return set(connection.execute(query.where(self._subject.c.sha256 == key_of(name))).scalars())

    def bind(self, fingerprint, model):
        """Give a gallery in which nothing was ever stored to another model; `False` if something was."""
        with self.writing() as connection:
            if self.head()[3]:
                return False
            values = {"fingerprint": fingerprint, "model": model, "changes": -1}
            connection.execute(self._gallery.update().values(values))
            return True

    def _set_dimension(self, dimension):
        if dimension > LARGEST_DIMENSION:
            raise ValueError(
                f"`embeddings` must have at most {LARGEST_DIMENSION:,} columns, as pgvector's vectors have. "
                f"Received: {dimension:,}"
            )
        with self.writing() as connection:
            connection.execute(self._gallery.update().values(dimension=dimension))
            for table in (self._template, self._embedding):
                name = connection.dialect.identifier_preparer.format_table(table)
                connection.execute(sa.text(f"ALTER TABLE {name} ALTER COLUMN vector TYPE vector({dimension})"))
            # A search reads all templates: within the rows, if these fit into a page, not each by an index from aside.
            if dimension <= LARGEST_IN_A_PAGE:
                name = connection.dialect.identifier_preparer.format_table(self._template)
                connection.execute(sa.text(f"ALTER TABLE {name} ALTER COLUMN vector SET STORAGE PLAIN"))

    def _introduce(self, names):
        with self.writing() as connection:
            known, names = self._numbers_of(names), list(names)
            new = [{"name": name, "sha256": key_of(name)} for name in names if name not in known]
            if new:
                connection.execute(self._subject.insert(), new)
            numbers = known | self._numbers_of(row["name"] for row in new)
        return {name: numbers[name] for name in names}

    def _insert(self, entries, numbers):
        rows = {}
        for name, image, digest, vector in entries:
            rows.setdefault((numbers[name], digest), (image, vector))
        own = self._embedding.c
        known = sa.select(own.subject, own.digest).where(own.subject == any_of({number for number, _ in rows}))
        with self.writing() as connection:
            for number, digest in connection.execute(known):
                rows.pop((number, digest), None)
            new = [
                {"subject": number, "image": image, "digest": digest, "vector": Vector(vector)}
                for (number, digest), (image, vector) in rows.items()
            ]
            if new:
                connection.execute(self._embedding.insert(), new)
        return len(new)

    def _pool(self, numbers):
        """Make templates of subjects anew: the mean of the unit embeddings, at unit length."""
        names = {number: name for name, number in numbers.items()}
        statement = insert(self._template)
        statement = statement.on_conflict_do_update(
            index_elements=["subject"], set_={"vector": statement.excluded.vector}
        )
        with self.writing() as connection:
            for part in in_parts(sorted(names), SUBJECTS_AT_ONCE):
                made = [
                    {"subject": number, "vector": Vector(pooled(rows, names[number]))}
                    for number, rows in self._vectors_of(part)
                ]
                connection.execute(statement, made)

    def _vectors_of(self, numbers):
        """Yield (number, (n, dim) float32 embeddings) of subjects, all rising, who have any."""
        own = self._embedding.c
        query = sa.select(own.subject, sa.func.vector_send(own.vector)).where(own.subject == any_of(numbers))
        dimension = self.head()[2]
        rows = itertools.chain.from_iterable(self._streamed(query.order_by(own.subject, own.id)))
        for number, group in itertools.groupby(rows, SUBJECT):
            yield number, self._matrix([vector for _, vector in group], dimension)

    def _matrix(self, vectors, dimension):
        """Vectors as the server sends them, after two numbers of two bytes → (n, dim) float32."""
        return matrix(vectors, dimension, self.path, dtype=">f4", head=4)

    def _streamed(self, query):
        """Yield the rows of a query in parts."""
        options = {"stream_results": True, "yield_per": self.rows_at_once}
        with self.reading() as connection, connection.execute(query, execution_options=options) as rows:
            yield from rows.partitions()

    def remove(self, find):
        """Delete the subjects that `find()` gives the numbers of; `False`, since the server does not overwrite them."""
        with self.writing() as connection:
            connection.execute(self._subject.delete().where(self._subject.c.id == any_of(find())))
        return False

    def merge(self, find, name):
        """Of two subjects, the numbers `find()` gives, the second, called `name`, gets what the first has."""
        own = self._embedding.c
        with self.writing() as connection:
            number, into = find()
            there = sa.select(own.digest).where(own.subject == into).scalar_subquery()
            moved = self._embedding.update().where(own.subject == number, own.digest.not_in(there))
            connection.execute(moved.values(subject=into))
            connection.execute(self._subject.delete().where(self._subject.c.id == number))
            self._pool({name: into})

    def embeddings(self):
        """Yield parts of (subjects, names, images, digests, vectors (n, dim) float32) of all embeddings, in order."""
        own = self._embedding.c
        columns = (own.subject, self._subject.c.name, own.image, own.digest, sa.func.vector_send(own.vector))
        query = sa.select(*columns).join_from(self._embedding, self._subject).order_by(own.id)
        with self.reading():
            dimension = self.head()[2]
            for part in self._streamed(query):
                numbers, names, images, digests, vectors = zip(*part, strict=True)
                yield numbers, names, images, digests, self._matrix(vectors, dimension)

    def search(self, probes, count):
        """(P, dim) unit float32 → for each a list of at most `count` (name, score), in the order of candidates."""
        with self.reading():
            return [self._nearest(probe, count) for probe in probes]

    def _nearest(self, probe, count):
        """(dim,) → list of (name, score). Each probe is a query of its own: the server's processes share it."""
        # An index that is approximate may give fewer than are wanted, which are then looked for without it.
        rows = self._fetched(self._by_index, probe, limit=count + MORE) if self._may_use_index else []
        if len(rows) < count + MORE:
            rows = self._fetched(self._exactly, probe, limit=count + MORE)
        scores = scores_of(self._matrix([row[2] for row in rows], len(probe)), probe)
        if len(rows) == count + MORE:
            least = float(np.sort(scores)[-count] - ROUNDING)
            if -max(distance for *_, distance in rows) >= least:  # others may be as good
                rows = self._fetched(self._within, probe, furthest=-least)
                scores = scores_of(self._matrix([row[2] for row in rows], len(probe)), probe)
        numbers = np.array([row[0] for row in rows], "int64")
        return [(rows[place][1], float(scores[place])) for place in np.lexsort((numbers, -scores))[:count]]

    def _fetched(self, query, probe, **limits):
        """Rows (number, name, vector, distance) of the nearest templates."""
        with self.reading() as connection:
            return connection.execute(query, {"probe": Vector(probe), **limits}).all()

    def _with_names(self, near):
        near = near.subquery()
        columns = (near.c.subject, self._subject.c.name, sa.func.vector_send(near.c.vector), near.c.distance)
        return sa.select(*columns).join_from(near, self._subject, near.c.subject == self._subject.c.id)

    def score_of(self, number, probe):
        """Number of a subject, (dim,) unit float32 → the score of its template."""
        query = sa.select(sa.func.vector_send(self._template.c.vector)).where(self._template.c.subject == number)
        with self.reading() as connection:
            vectors = list(connection.execute(query).scalars())
            if not vectors:
                raise self.corrupt("a subject has no template")
            (score,) = scores_of(self._matrix(vectors, len(probe)), probe)
        return float(score)

    def build_index(self, progress):
        """An error: the server's index is made in the server."""
        raise ValueError(f"{printable(self.path)} is searched by its server, in which an index can be made, not here")

    def index_status(self):
        """`IndexStatus` of the server's own index, whose recall nobody has measured."""
        query = sa.text(
            "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
            "WHERE indrelid = to_regclass(:table) AND indisvalid AND amname != 'btree'"
        )
        with self.reading() as connection:
            table = connection.dialect.identifier_preparer.format_table(self._template)
            made = connection.execute(query, {"table": table}).scalar()
            why = "" if made and self._may_use_index else "the server's index is not wanted" if made else NO_INDEX
            subjects = self.count()
        return IndexStatus(subjects, 0 if why else subjects, None, TARGET_RECALL, 0, None, 0.0, why, not why)

    @contextlib.contextmanager
    def comparing(self, most):
        """Context that gives what `threshold_at_fpir` compares: at most `most` embeddings with all templates."""
        own = self._embedding.c
        places = sa.select(own.id, (sa.func.row_number().over(order_by=own.id) - 1).label("place")).subquery()
        with self.reading() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(self._embedding)).scalar()
            chosen = any_of(evenly_spread(total, most).tolist())
            query = sa.select(own.subject, sa.func.vector_send(own.vector)).join_from(
                self._embedding, places, places.c.id == own.id
            )
            found = connection.execute(query.where(places.c.place == chosen).order_by(own.id)).all()
            numbers = np.array([number for number, _ in found], "int64")
            rows = self._matrix([vector for _, vector in found], self.head()[2] or 0)
            yield self.count(), self._templates, rows, numbers

    def _templates(self):
        """Yield parts of (numbers (n,) int64, templates (n, dim) float32)."""
        own, dimension = self._template.c, self.head()[2]
        for part in self._streamed(sa.select(own.subject, sa.func.vector_send(own.vector)).order_by(own.subject)):
            numbers, vectors = zip(*part, strict=True)
            yield np.array(numbers, "int64"), self._matrix(vectors, dimension)

    def faults(self):
        """What is wrong with what is stored, in words; an empty list if nothing is."""
        subject, template, found = self._subject.c, self._template.c, []
        with self.reading() as connection:
            dimension = self.head()[2] or 0
            query = sa.select(subject.id, subject.name, subject.sha256).order_by(subject.id)
            for part in in_parts(connection.execute(query).all(), SUBJECTS_AT_ONCE):
                numbers = [number for number, *_ in part]
                rows, none = dict(self._vectors_of(numbers)), self._matrix([], dimension)
                query = sa.select(template.subject, sa.func.vector_send(template.vector))
                templates = dict(connection.execute(query.where(template.subject == any_of(numbers))).all())
                for number, name, key in part:
                    shown = printable(name)[:SHOWN_LETTERS]
                    own = self._matrix([templates[number]], dimension) if number in templates else none
                    found += faults_of(shown, rows.get(number, none), own)
                    found += [] if key == key_of(name) else [f"{shown}: the name was changed"]
        return found


def key_of(name):
    """SHA-256 of a name, by which it is found."""
    return hashlib.sha256(name.encode()).digest()


def is_text(name):
    """Whether a name can be one: half of a pair of surrogates is not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def any_of(values, kind=sa.BigInteger):
    """Values → what a column is compared with by `==`, as one array however many they are."""
    return sa.any_(sa.literal(list(values), ARRAY(kind)))


def in_parts(values, size):
    """List → slices of it."""
    return (values[start : start + size] for start in range(0, len(values), size))
