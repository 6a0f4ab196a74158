"""Networks of genes as tables of edges: given by a user, from co-expression, or from databases.

A network is a data frame with the columns ``source``, ``target`` and ``weight``. Edges name genes, so the order of
genes in the data plays no part until :func:`index_edges` looks the names up.
"""

from __future__ import annotations

from pertcast.network._coexpression import coexpression
from pertcast.network._database import DATABASES, load_database
from pertcast.network._edges import index_edges, read_edges
from pertcast.network._shuffle import shuffle_edges

__all__ = ["DATABASES", "coexpression", "index_edges", "load_database", "read_edges", "shuffle_edges"]
