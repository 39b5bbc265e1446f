"""Who is this? People enrolled by their embeddings, found again by the cosine, others rejected.

A `Gallery` is one file: an SQLite database with the subjects, each single embedding, and one template for each
subject, the mean of the embeddings at unit length; or the same in a PostgreSQL server, which searches it with pgvector.
`enrol` adds photos, `identify` says whose face a photo shows, or that it is nobody's, `verify` compares with one
subject, `remove`, `merge`, `copy` and `export` do what they say.

The five that matter: `Gallery`; `Identification`, what a search found, of `Candidate`s; `IdentificationThreshold`, from
`Gallery.threshold_at_fpir`: at how high a cosine those who are not enrolled are rejected; `Enrolment`, what became of
the photos. `IndexStatus` says whether a large gallery is searched by an index, and how much that finds.

Whatever changes a gallery is one transaction: it is there as a whole when the call returns, or nothing of it is,
whenever the process is killed (`enrol` makes one of at most 256 images). Many processes may read a gallery while one
writes to it; a second writer waits. After a fork, each process opens it anew.

Order to read: `_gallery` (what people call) and `_results` (what they get), `_storage` (what a storage must do),
`_records` and `_database` (what is stored, and how), `_search` (the array that is searched, by blocks of products),
`_index` (a graph that proposes candidates), `_thresholds`; `_postgres` and `_server`, imported for a URL only.
Importing this imports neither Keras nor TensorFlow.
"""

from keras_normface.gallery._gallery import Gallery
from keras_normface.gallery._results import Candidate, Enrolment, Identification, IndexStatus
from keras_normface.gallery._thresholds import METHODS, IdentificationThreshold

__all__ = ["METHODS", "Candidate", "Enrolment", "Gallery", "Identification", "IdentificationThreshold", "IndexStatus"]
