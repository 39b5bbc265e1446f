"""A gallery in PostgreSQL answers as one in a file, on a real server that the tests start."""

import itertools
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from keras_normface._io import LockedError
from keras_normface.gallery import Gallery
from tests.gallery import test_gallery as in_files
from tests.gallery import test_gallery_processes as processes
from tests.gallery.test_gallery import around, directions
from tests.support.postgres import PostgresServer

numbers = itertools.count()


@pytest.fixture(scope="session")
def server():
    started = PostgresServer()
    yield started
    started.close()


@pytest.fixture
def url(server):
    """Of a schema of its own, whose name needs quotes."""
    return server.url(f"{next(numbers)} people.gallery")


@pytest.fixture
def schema(url):
    return url.rsplit("=", 1)[1]


@pytest.fixture
def gallery(url):
    with Gallery(url, fingerprint="toy") as opened:
        yield opened


people = in_files.people


@pytest.fixture
def both(url, tmp_path):
    with Gallery(url, fingerprint="toy") as server, Gallery(tmp_path / "a.gallery", fingerprint="toy") as file:
        yield server, file


@pytest.mark.long
class TestIdentify(in_files.TestIdentify):
    pass


@pytest.mark.long
class TestThreshold(in_files.TestThreshold):
    test_strangers_are_accepted_at_the_wanted_rate = None  # 8 000 searches


@pytest.mark.long
class TestCopy(in_files.TestCopy):
    test_what_is_refused = None


@pytest.mark.long
class TestChanges:
    """Those of a file's that are not about the file."""


for name, work in vars(in_files.TestChanges).items():
    if name.startswith("test_") and not {"path", "_database"} & {*work.__code__.co_varnames, *work.__code__.co_names}:
        setattr(TestChanges, name, work)


def test_most_of_the_tests_of_a_file_are_used():
    assert len(vars(TestChanges)) > 14


class TestSameAsInAFile:
    @pytest.mark.parametrize(("dim", "subjects"), [(3, 6), (16, 100), (513, 40)])
    def test_answers_are_equal(self, both, dim, subjects):
        self.check(both, dim, subjects, 10)

    @pytest.mark.long
    @pytest.mark.parametrize(("dim", "subjects"), [(16, 2000), (128, 800), (600, 400), (2100, 100)])
    def test_answers_of_larger_ones_are_equal(self, both, dim, subjects):
        self.check(both, dim, subjects, 30)

    def check(self, both, dim, subjects, probes):
        rng = np.random.default_rng(dim)
        pool = directions(subjects // 2 + 1, dim, seed=dim)
        # Many people have equal templates, so that order decides.
        rows = pool[rng.integers(0, len(pool), 2 * subjects)]
        names = [f"p{number}" for number in rng.integers(0, subjects, 2 * subjects)]
        probes = np.concatenate([directions(probes, dim, seed=1), pool[:2], -pool[:2]])
        server, file = both
        for start in (0, subjects):
            part = slice(start, start + subjects)
            assert server.enrol_embeddings(names[part], rows[part]) == file.enrol_embeddings(names[part], rows[part])
        for step in range(2):
            for count in (1, 5, 10_000):
                options = {"threshold": 0.3, "count": count}
                assert server.identify_many(probes, **options) == file.identify_many(probes, **options)
            assert server.verify(names[0], probes[0], threshold=0) == file.verify(names[0], probes[0], threshold=0)
            for method, fpir in (("measured", 0.2), ("independent", 0.5)):
                found = [gallery.threshold_at_fpir(fpir, method=method) for gallery in both]
                assert found[0].cosine == pytest.approx(found[1].cosine, abs=1e-6)
                assert found[0].num_probes == found[1].num_probes
            assert server.subjects() == file.subjects()
            other = next(name for name in names if name not in (names[0], names[1]) and name in file)
            for gallery in both:
                gallery.merge(other, into=names[0]) if step else gallery.remove(other)
        assert server.check() == file.check() == []

    def test_a_thousand_equal_templates(self, both):
        for gallery in both:
            gallery.enrol_embeddings([f"p{number}" for number in range(1000)], np.repeat(directions(1), 1000, axis=0))
            # Their rows are the last of the server's table now, but they were enrolled first.
            gallery.enrol_embeddings([f"p{number}" for number in range(7)], np.repeat(directions(1), 7, axis=0))
        found = [gallery.identify(directions(1, seed=2)[0], threshold=0, count=7) for gallery in both]
        assert found[0] == found[1]
        assert [one.name for one in found[0].candidates] == [f"p{number}" for number in range(7)]

    def test_blocks_of_templates_are_compared_as_all_together(self, both, monkeypatch):
        monkeypatch.setattr("keras_normface.gallery._records.Records.rows_at_once", 13)
        for gallery in both:
            gallery.enrol_embeddings(
                [f"p{number}" for number in range(50) for _ in range(3)], around(directions(50), 3)
            )
        for method in ("measured", "independent"):
            found = [gallery.threshold_at_fpir(0.3, method=method) for gallery in both]
            assert found[0].cosine == pytest.approx(found[1].cosine, abs=1e-6)
        assert both[0].check() == []
        for gallery, other in (both, both[::-1]):
            gallery.remove([name for name, _ in gallery.subjects()])
            with pytest.raises(ValueError, match="nobody in it"):
                gallery.copy(other.path)
            break

    def test_there_and_back(self, both, server, tmp_path):
        there, file = both
        file.enrol_embeddings(["b", "a", "b", "c"], directions(4), ["1", "2", "3", "4"])
        file.merge("b", into="c")
        assert file.copy(there.path) == (2, 4)
        assert there.copy(tmp_path / "back") == (2, 4)
        assert there.copy(server.url(f"copy {next(numbers)}")) == (2, 4)
        with Gallery(tmp_path / "back") as back:
            for gallery in (there, back):
                assert gallery.identify_many(directions(9, seed=5), threshold=0) == file.identify_many(
                    directions(9, seed=5), threshold=0
                )
                assert gallery.check() == []
                gallery.export(tmp_path / "x.csv")
                content = (tmp_path / "x.csv").read_text()
                file.export(tmp_path / "x.csv")
                assert content == (tmp_path / "x.csv").read_text()


class TestIndex:
    def test_few_are_found_by_it_and_many_without_it(self, both, server, schema, url, tmp_path):
        centres = directions(800, dim=24, seed=3)
        for gallery in both:
            gallery.enrol_embeddings([f"p{number}" for number in range(800)], centres)
        server.execute(f'CREATE INDEX ON "{schema}".template USING hnsw (vector vector_ip_ops)', "ANALYZE")
        probes = around(centres[:60], 1, spread=0.2)
        # As a table of millions would be searched.
        with Gallery(f"{url}&options=-cenable_seqscan%3Doff") as indexed:
            read = f"SELECT idx_scan FROM pg_stat_user_indexes WHERE relname = 'template' AND schemaname = '{schema}'"
            found, exact = (gallery.identify_many(probes, threshold=0, count=3) for gallery in (indexed, both[1]))
            recall = np.mean([a.candidates[0] == b.candidates[0] for a, b in zip(found, exact, strict=True)])
            assert recall > 0.9
            status = indexed.index_status()
            assert (status.in_use, status.recall, status.num_indexed) == (True, None, 800)
            with pytest.raises(ValueError, match="searched by its server"):
                indexed.build_index()
            assert [len(one.candidates) for one in found] == [3] * 60
            # More than hnsw.ef_search, 40, which is all that the index gives.
            many = [gallery.identify(probes[0], threshold=0, count=100) for gallery in (indexed, both[1])]
            assert many[0] == many[1]
            assert len(many[0].candidates) == 100
        time.sleep(0.1)
        scans = max(server.execute(read))[0]
        assert scans > 50
        with Gallery(f"{url}&options=-cenable_seqscan%3Doff", index=None) as exactly:
            assert exactly.identify_many(probes, threshold=0, count=3) == exact
            assert "is not wanted" in exactly.index_status().reason
        time.sleep(0.1)
        assert max(server.execute(read))[0] == scans
        server.execute(f'DROP INDEX "{schema}".template_vector_idx')
        assert "no index" in both[0].index_status().reason


class TestNames:
    def test_long_and_odd_ones(self, gallery):
        rng = np.random.default_rng(0)
        # No compression makes it fit into an index.
        long = "".join(map(chr, rng.integers(0x4E00, 0x9FFF, 10_000)))
        names = [
            long,
            long + "x",
            "%s %(name)s :name",
            "\\x00",
            "\x01\x7f",
            "e\u0301",
            "é",
            "Z",
            "a",
            "{a}",
            "\U0001f600",
        ]
        gallery.enrol_embeddings(names, directions(len(names)), images=names)
        assert [name for name, _ in gallery.subjects()] == sorted(names, key=str.encode)
        for name, row in zip(names, directions(len(names)), strict=True):
            assert name in gallery
            assert gallery.identify(row, threshold=0.9).name == name
            assert gallery.verify(name, row, threshold=0.9).name == name
        assert "\ud800" not in gallery
        assert "a\0" not in gallery
        with pytest.raises(ValueError, match="`images`"):
            gallery.enrol_embeddings(["a"], directions(1), images=["a\0b"])
        gallery.remove(names)
        assert gallery.subjects() == []

    @pytest.mark.parametrize("dim", [1, 2000, 2001, 16_000])
    def test_dimensions(self, gallery, dim):
        rows = np.ones((2, dim))
        rows[1, 0] = -1.5
        gallery.enrol_embeddings(["a", "b"], rows)
        assert gallery.dimension == dim
        assert gallery.identify(rows[1], threshold=0.999).name == "b"
        with pytest.raises(ValueError, match="`embeddings` must have"):
            gallery.enrol_embeddings(["a"], np.ones((1, dim + 1)))

    def test_a_dimension_that_pgvector_does_not_store(self, gallery):
        with pytest.raises(ValueError, match=r"`embeddings` must have at most 16,000 columns"):
            gallery.enrol_embeddings(["a"], np.ones((1, 16_001)))
        assert (gallery.dimension, len(gallery)) == (None, 0)


class TestOpening:
    def test_a_gallery_belongs_to_one_model(self, url):
        with Gallery(url, fingerprint="one") as gallery:
            with Gallery(url, fingerprint="other") as other:
                assert other.fingerprint == other.model == "other"
                other.enrol_embeddings(["a"], [[1, 0]])
            with pytest.raises(ValueError, match="embeddings of the model other"):
                gallery.enrol_embeddings(["b"], [[1, 0]])
            assert gallery.subjects() == [("a", 1)]
        with pytest.raises(ValueError, match=r"embeddings of the model other \(other\)"):
            Gallery(url, fingerprint="one")
        with Gallery(url) as gallery:
            assert gallery.fingerprint == "other"

    def test_without_a_model_none_is_made(self, url, server, schema):
        with pytest.raises(FileNotFoundError, match="There is no gallery"):
            Gallery(url)
        assert server.execute(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'") == [(0,)]

    def test_several_in_one_database(self, server):
        first, second = server.url(), server.url("other'\"people")
        for number, url in enumerate((first, second)):
            with Gallery(url, fingerprint=str(number)) as gallery:
                gallery.enrol_embeddings([f"p{number}"], [[1, 0]])
        with Gallery(first) as gallery:
            assert (gallery.subjects(), gallery.fingerprint) == ([("p0", 1)], "0")
        assert server.execute("SELECT count(*) FROM keras_normface.subject") == [(1,)]

    @pytest.mark.parametrize(
        ("statement", "said"),
        [
            ('UPDATE "{}".gallery SET version = 9', "is a gallery of version 9; version 1 is read"),
            ('ALTER TABLE "{}".subject ADD COLUMN x integer', "is not a gallery: the schema"),
            ('DROP TABLE "{}".embedding', "is not a gallery: the schema"),
            ('DROP TABLE "{}".gallery', "is not a gallery: the schema"),
            ('DELETE FROM "{}".gallery', "its description is missing"),
        ],
    )
    def test_another_version_or_other_tables(self, gallery, server, url, schema, statement, said):
        server.execute(statement.format(schema))
        for fingerprint in (None, "toy"):
            with pytest.raises(ValueError, match=said):
                Gallery(url, fingerprint=fingerprint)

    def test_tables_of_others_are_left_alone(self, url, server, schema):
        server.execute(f'CREATE SCHEMA "{schema}"', f'CREATE TABLE "{schema}".subject (x integer)')
        with pytest.raises(ValueError, match="holds other tables"):
            Gallery(url, fingerprint="toy")
        assert server.execute(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == [(1,)]

    def test_a_schema_that_is_deleted_while_it_is_open(self, gallery, server, schema):
        gallery.enrol_embeddings(["a"], [[1, 0]])
        server.execute(f'DROP SCHEMA "{schema}" CASCADE')
        for work in (gallery.subjects, lambda: gallery.enrol_embeddings(["b"], [[1, 0]])):
            with pytest.raises(ValueError, match="is not a valid gallery: relation"):
                work()

    def test_a_server_without_pgvector(self, server, monkeypatch):
        monkeypatch.setattr("keras_normface.gallery._server.EXTENSION", "not_there")
        with pytest.raises(ValueError, match="is on a server without pgvector"):
            Gallery(server.url("x"), fingerprint="toy")

    def test_a_database_without_the_extension_and_one_in_another_encoding(self, server):
        server.execute("CREATE DATABASE bare", "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0")
        server.execute("CREATE ROLE guest LOGIN", "GRANT CREATE ON DATABASE bare TO guest")
        with pytest.raises(OSError, match=r"permission denied|must be") as raised:
            Gallery(server.url(user="guest", database="bare", schema="x"), fingerprint="toy")
        assert "guest@/bare" in str(raised.value)
        with Gallery(server.url(database="bare"), fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])
        with pytest.raises(ValueError, match=r"must be a database in UTF8\. Received: one in LATIN1"):
            Gallery(server.url(database="latin"), fingerprint="toy")

    def test_who_may_read_only(self, server, gallery, schema):
        gallery.enrol_embeddings(["a"], [[1, 0]])
        server.execute("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
        with pytest.raises(OSError, match="permission denied"):
            Gallery(server.url(schema, user="reader"))
        grants = (
            f'GRANT USAGE ON SCHEMA "{schema}" TO reader',
            f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO reader',
        )
        server.execute(*grants)
        with Gallery(server.url(schema, user="reader"), fingerprint="toy") as reader:
            assert reader.identify([1, 0], threshold=0.5).name == "a"
            assert reader.check() == []
            for work in (lambda: reader.enrol_embeddings(["b"], [[1, 0]]), lambda: reader.remove("a")):
                with pytest.raises(OSError, match="permission denied"):
                    work()
        assert gallery.subjects() == [("a", 1)]
        server.execute(f'GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO reader')
        with Gallery(server.url(schema, user="reader"), fingerprint="toy") as writer:
            writer.enrol_embeddings(["b", "c"], [[1, 0], [0, 1]])
            writer.merge("b", into="a")
            writer.remove("c")
        assert gallery.subjects() == [("a", 1)]

    def test_who_owns_a_schema_that_was_made_beforehand(self, server):
        server.execute("CREATE EXTENSION IF NOT EXISTS vector", "CREATE ROLE keeper LOGIN")
        server.execute("CREATE SCHEMA kept AUTHORIZATION keeper")
        with Gallery(server.url("kept", user="keeper"), fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])
            assert gallery.identify([1, 0], threshold=0.5).name == "a"

    def test_an_extension_in_a_schema_of_its_own(self, server):
        server.execute("CREATE DATABASE apart")
        server.execute('CREATE SCHEMA "the ""ext"', 'CREATE EXTENSION vector SCHEMA "the ""ext"', database="apart")
        for _ in range(2):
            with Gallery(server.url(database="apart"), fingerprint="toy") as gallery:
                gallery.enrol_embeddings(["a", "b"], [[1, 0], [0, 1]])
                assert gallery.identify([0, 1], threshold=0.5).name == "b"
                assert gallery.check() == []

    def test_the_encoding_of_the_environment_does_not_count(self, url, monkeypatch):
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        with Gallery(url, fingerprint="名前") as gallery:
            gallery.enrol_embeddings(["名前"], [[1, 0]])
            assert gallery.subjects() == [("名前", 1)]

    def test_a_closed_one(self, url):
        gallery = Gallery(url, fingerprint="toy")
        gallery.close()
        with pytest.raises(ValueError, match=r"people.gallery is closed"):
            gallery.subjects()

    def test_after_a_fork_it_must_be_opened_anew(self, url):
        process = processes.start(processes.FORKS, url)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        first, second = output.splitlines()
        assert "was opened before a fork" in first
        assert second == "[('parent', 1)]"

    def test_without_the_packages(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "keras_normface.gallery._postgres", None)
        with pytest.raises(ImportError, match=r"keras-normface\[postgres\]"):
            Gallery("postgresql://user@host/db")

    def test_they_are_imported_for_a_url_only(self):
        code = "import sys, keras_normface.gallery; assert not {'sqlalchemy', 'psycopg', 'pgvector'} & set(sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestSecrets:
    def test_a_password_is_never_shown(self, server, gallery, schema, tmp_path):
        server.execute("DROP ROLE IF EXISTS careful", "CREATE ROLE careful LOGIN SUPERUSER PASSWORD 's3cret/p@ss'")
        right = server.url(schema, user="careful:s3cret%2Fp%40ss")
        with Gallery(right) as opened:
            assert opened.path == server.url(schema, user="careful").replace(" ", "+").replace(
                "/pg-", "%2Fpg-"
            ).replace("=/", "=%2F")
            assert "s3cret" not in repr(vars(opened)) + str(vars(opened._database))
            with pytest.raises(ValueError, match="`name` must be a subject") as raised:
                opened.verify("nobody", [1, 0], threshold=0)
            assert "s3cret" not in str(raised.value)
            with pytest.raises(ValueError, match="`path` must be a file") as raised:
                opened.export(f"{right}.csv")
            assert "s3cret" not in str(raised.value)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://careful:s3cret@/postgres?host={}",
            "postgresql://careful@/postgres?host={}&password=s3cret",
            "postgresql://owner:s3cret@/nowhere?host={}",
            "postgresql://owner:s3cret@nowhere.invalid/postgres",
            "postgresql://owner:s3cret@127.0.0.1:1/postgres",
            "postgresql://owner:s3cret@/postgres?host=/nowhere",
        ],
    )
    def test_who_cannot_connect(self, server, url):
        for fingerprint in (None, "toy"):
            with pytest.raises(ConnectionError, match="cannot be reached") as raised:
                Gallery(url.format(server.directory), fingerprint=fingerprint)
            assert "\n" not in str(raised.value)
            assert "s3cret" not in "".join(traceback.format_exception(raised.value))

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://u:s3cret@host/db",
            "postgresql://u:s3cret@host:port/db",
            "postgresql+asyncpg://u:s3cret@host/db",
            "postgresql://u:x@s3cret@host/db",
            "postgresql://u%00:s3cret@host/db",
            "postgresql://u:s3cret@host/db?schema=a&schema=b",
            f"postgresql://u:s3cret@host/db?schema={'x' * 64}",
        ],
    )
    def test_urls_that_are_none(self, url):
        with pytest.raises(ValueError, match="`path`") as raised:
            Gallery(url)
        assert "s3cret" not in "".join(traceback.format_exception(raised.value))


class TestProcesses:
    @pytest.mark.long
    def test_two_writers_and_a_reader(self, url):
        Gallery(url, fingerprint="toy").close()
        writers = [processes.start(processes.ADDS, url, first) for first in (0, 1000)]
        counts = []
        with Gallery(url) as reader:
            while any(writer.poll() is None for writer in writers):
                subjects = reader.subjects()
                assert {count for _, count in subjects} <= {3}
                counts.append(len(subjects))
                time.sleep(0.02)
            for writer in writers:
                _, errors = writer.communicate()
                assert writer.returncode == 0, errors
            assert len(reader) == 80
            assert reader.check() == []
        assert counts == sorted(counts)

    def test_makers_at_the_same_time(self, url):
        code = processes.SETUP + "gallery.enrol_embeddings([sys.argv[2]], rows(1, 1)); print(gallery.check())"
        makers = [processes.start(code, url, number) for number in range(3)]
        for maker in makers:
            output, errors = maker.communicate()
            assert (maker.returncode, output) == (0, "[]\n"), errors
        with Gallery(url) as gallery:
            assert gallery.subjects() == [("0", 1), ("1", 1), ("2", 1)]

    def test_a_writer_that_waits_too_long_names_the_reason(self, gallery, url, monkeypatch):
        monkeypatch.setattr("keras_normface.gallery._server.SECONDS_TO_WAIT", 0.2)
        gallery.enrol_embeddings(["a"], [[1, 0]])
        with Gallery(url) as other, gallery._database.writing():
            with pytest.raises(LockedError, match=r"people.gallery is in use by another process"):
                in_thread(lambda: other.enrol_embeddings(["b"], [[1, 0]]))
            assert other.identify([1, 0], threshold=0.5).name == "a"  # readers do not wait
        gallery.enrol_embeddings(["b"], [[1, 0]])
        assert len(gallery) == 2

    def test_threads_share_a_gallery(self, gallery, people):
        errors = []

        def work(number):
            try:
                for step in range(5):
                    gallery.enrol_embeddings([f"t{number}-{step}"], directions(1, seed=1000 + 50 * number + step))
                    assert gallery.identify(people[0], threshold=0.9).name == "p0"
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(gallery) == 28
        assert gallery.check() == []

    def test_what_is_read_is_of_one_moment(self, gallery, url):
        gallery.enrol_embeddings(["a", "b"], [[1, 0], [0, 1]])
        with Gallery(url) as other, gallery._database.reading():
            assert len(gallery) == 2
            in_thread(lambda: other.remove("a"))
            assert gallery.subjects() == [("a", 1), ("b", 1)]
            assert gallery.identify([1, 0], threshold=0.5).name == "a"
        assert gallery.subjects() == [("b", 1)]

    def test_a_killed_writer_leaves_nothing_half_there(self, url):
        processes.killed_at_random_moments(url, kills=2, seconds=0.6)

    @pytest.mark.long
    def test_twenty_killed_writers(self, url):
        processes.killed_at_random_moments(url, processes.KILLS, seconds=0.4)

    def test_what_an_interrupt_breaks_off_is_not_there(self, gallery):
        def in_one_transaction(work):
            with gallery._database.writing() as connection:
                gallery._database._introduce(["b"])
                work(connection)

        gallery.enrol_embeddings(["a"], [[1, 0]])
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                in_one_transaction(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(20)"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert gallery.subjects() == [("a", 1)]
        assert gallery.enrol_embeddings(["c"], [[1, 0]]) == 1


def in_thread(work):
    """Call a function in another thread, which has a transaction of its own; raise what it raises."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_server_that_stops_in_the_middle(tmp_path):
    own = PostgresServer()
    try:
        with Gallery(own.url(), fingerprint="toy") as gallery:
            gallery.enrol_embeddings(["a"], [[1, 0]])

            def stop(done, total):
                own.stop()

            with Gallery(tmp_path / "file", fingerprint="toy") as file:
                file.enrol_embeddings(["b", "c"], directions(2))
                with pytest.raises(ConnectionError, match="cannot be reached") as raised:
                    file.copy(own.url("copy"), progress=stop)
            assert "\n" not in str(raised.value)
            with pytest.raises(ConnectionError, match=r"postgresql://owner@/postgres.* cannot be reached"):
                gallery.identify([1, 0], threshold=0.5)
            own.start()
            assert gallery.subjects() == [("a", 1)]
            assert gallery.enrol_embeddings(["c"], [[0, 1]]) == 1
            assert gallery.check() == []
            with Gallery(own.url("copy")) as copy:
                assert copy.subjects() == []
    finally:
        own.close()
