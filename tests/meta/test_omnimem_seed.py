"""What omnimem's architecture document says: names and signatures are held here, each statement by a test named here.

Those about MongoDB, Elasticsearch and Kafka are held by tests with these servers.
"""

import ast
import dataclasses
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import omnimem
from omnimem import IndexHint, Memory, OmniMemClient, Scope
from omnimem.models.scope import DIMENSIONS
from omnimem.storage.postgres.tables import build_tables

TESTS = Path(__file__).parents[1]
CLIENT, SEARCH, SYNC = (f"integration/test_omnimem_{name}.py::" for name in ("client", "search", "sync"))
MODELS, SCHEMA = "unit/test_omnimem_models.py::", "integration/test_omnimem_schema.py::"

STATEMENTS: dict[str, str] = {
    "1.1 isolation by tenant, user, app, group, agent, run": f"{CLIENT}test_nothing_outside_the_scope_is_reached",
    "1.1 the state at any moment of the past": f"{CLIENT}test_every_moment_has_its_record",
    "1.1 meaning, words and filters together": f"{SEARCH}test_filters_bound_what_is_found",
    "1.1 a record once written never changes": f"{CLIENT}test_an_update_appends_a_record",
    "1.3 the truth has the whole object and all versions": f"{CLIENT}test_what_was_created_is_read_back",
    "1.3 one memory may have many vectors": f"{SEARCH}test_a_memory_of_many_vectors_counts_once",
    "1.3 the keyword index finds words and filters fields": f"{SEARCH}test_filters_bound_what_is_found",
    "1.3 the queue makes indexing asynchronous": f"{SYNC}test_asynchronously_writes_wait_for_no_model",
    "2.1 memory_id is shared, record_id is each record's": f"{CLIENT}test_an_update_appends_a_record",
    "2.2 create: new memory_id, new record_id": f"{CLIENT}test_what_was_created_is_read_back",
    "2.2 update: same memory_id, new record_id and version": f"{CLIENT}test_an_update_appends_a_record",
    "2.2 delete: all records of the memory": f"{CLIENT}test_a_deleted_memory_is_gone_at_every_moment",
    "2.3 the latest, by is_latest": f"{CLIENT}test_sixty_four_updates_at_once_make_sixty_four_records",
    "2.3 a version, by memory_id and version": f"{CLIENT}test_an_update_appends_a_record",
    "2.3 a moment, by created_time": f"{CLIENT}test_every_moment_has_its_record",
    "3.1 Memory and its fields": f"{MODELS}test_models_are_frozen_and_survive_json",
    "3.1 both ends of valid time belong to it": f"{CLIENT}test_the_ends_of_valid_time_are_included",
    "3.2 dimensions combine in any way": f"{CLIENT}test_a_wide_scope_sees_all_below_it",
    "3.2 a namespace of one's own": f"{MODELS}test_a_scope_survives_its_tags_and_its_json",
    "3.3 vector_concat_fields go with the text": f"{MODELS}test_a_hint_says_what_is_embedded_and_what_is_read",
    "3.3 vector_fields are embedded on their own": f"{SEARCH}test_a_memory_of_many_vectors_counts_once",
    "3.3 paths lead into arrays": f"{MODELS}test_paths_lead_to_texts",
    "4.1 scope and content are stored flat": f"{SCHEMA}test_memories_are_stored_flat",
    "4.1 the namespace becomes tags": f"{MODELS}test_tags_encode_colons_and_percent_signs",
    "4.2 (memory_id, field_name) is unique": f"{SCHEMA}test_memories_are_stored_flat",
    "4.2 scopes bound the search for vectors": f"{CLIENT}test_nothing_outside_the_scope_is_reached",
    "4.3 fulltext_fields are found": f"{SEARCH}test_fulltext_fields_are_found_and_others_not",
    "1.2 one logic, many stores": "integration/test_omnimem_model.py::test_random_lives_over_many_servers",
    "1.3 MongoDB is the source of truth": "integration/test_fleet_faults.py::test_servers_that_break_lose_nothing",
    "1.3 Kafka makes indexing asynchronous": "integration/test_fleet.py::test_writes_are_followed_by_a_worker",
    "4.1 MongoDB has indexes for combined scopes": "integration/test_mongodb_plans.py::test_a_listing_of_several",
    "4.3 fields are named by their type": "integration/test_search_documents.py::test_fields_are_named_by_their_type",
    "4.3 no explosion of the mapping": "integration/test_search_documents.py::test_ten_thousand_keys_lose_nothing",
    "5.1 create: ids, truth, indexes": f"{SYNC}test_unchanged_text_is_not_embedded_again",
    "5.2 update: append and move the mark in one transaction": f"{CLIENT}test_of_many_that_expect_a_version_one_wins",
    "5.2 update: the indexes have the newest only": f"{SYNC}test_hits_of_a_lagging_index_are_the_truth",
    "5.3 delete: truth, vectors and words": f"{SYNC}test_changes_in_any_order_lead_to_the_same_index",
    "6.1.1 history, newest first, at most limit": f"{CLIENT}test_history_comes_in_pages",
    "6.1.2 the last record up to target_time": f"{CLIENT}test_every_moment_has_its_record",
    "6.1.3 revert: a new record with the old content": f"{CLIENT}test_a_revert_is_a_new_record",
    "7 SearchEngine searches in hybrid ways": f"{SEARCH}test_meaning_and_words_find_different_things",
    "7 fusion by reciprocal rank": f"{SEARCH}test_meaning_and_words_find_different_things",
    "7 the filter language for every store": f"{SEARCH}test_sql_filters_mean_what_the_predicate_means",
    "7 IndexSynchronizer brings changes to the indexes": f"{SYNC}test_two_workers_share_the_work",
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_is_held_by_a_test(statement: str) -> None:
    file, _, name = STATEMENTS[statement].partition("::")
    module = ast.parse((TESTS / file).read_text())
    assert name in {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("omnimem", ["OmniMemClient"]),
        ("omnimem.client.client", ["OmniMemClient"]),
        ("omnimem.models.base", []),
        ("omnimem.models.memory", ["Memory", "Content", "SourceReference", "MemoryType"]),
        ("omnimem.models.scope", ["Scope", "Namespace"]),
        ("omnimem.models.filter", ["SearchQuery", "SearchFilters", "F"]),
        ("omnimem.models.index", ["IndexHint"]),
        ("omnimem.operations.manager", ["MemoryManager"]),
        ("omnimem.operations.time_travel", []),
        ("omnimem.storage.base", ["StorageProtocol"]),
        ("omnimem.storage.mongodb", ["MongoRecords"]),
        ("omnimem.storage.postgres", ["PostgresVectors"]),
        ("omnimem.storage.elasticsearch", ["ElasticsearchKeywords"]),
        ("omnimem.storage.factory", []),
        ("omnimem.search.engine", ["SearchEngine"]),
        ("omnimem.search.fusion", ["rrf"]),
        ("omnimem.search.query_builder", []),
        ("omnimem.pipeline.synchronizer", ["IndexSynchronizer"]),
    ],
)
def test_the_modules_are_where_the_document_draws_them(module: str, names: list[str]) -> None:
    found = import_module(module)
    assert [name for name in names if not hasattr(found, name)] == []


def test_models_have_the_document_s_fields_in_its_order() -> None:
    assert [field.name for field in dataclasses.fields(Memory)] == [
        "memory_id", "record_id", "version", "is_latest", "scope", "content", "metadata", "type", "sources",
        "index_hint", "created_time", "event_time", "valid_time_from", "valid_time_to",
    ]  # fmt: skip
    assert [field.name for field in dataclasses.fields(Scope)] == [*DIMENSIONS, "namespace"]
    assert DIMENSIONS == ("tenant_id", "user_id", "app_id", "group_id", "agent_id", "run_id")
    assert {field.name for field in dataclasses.fields(IndexHint)} == {
        "vector_concat_fields", "vector_fields", "fulltext_fields",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (OmniMemClient.get_memory_history, {"memory_id": None, "limit": 20}),
        (OmniMemClient.get_memory_at_time, {"memory_id": None, "target_time": None}),
        (OmniMemClient.revert_to_record, {"memory_id": None, "target_record_id": None}),
        (OmniMemClient.update_memory, {"memory_id": None, "new_content": None}),
    ],
)
def test_calls_have_the_document_s_parameters(call: Callable[..., Any], parameters: dict[str, Any]) -> None:
    found = list(inspect.signature(call).parameters.values())[1:]
    assert {p.name: None if p.default is p.empty else p.default for p in found} == parameters


def test_tables_and_columns_have_the_document_s_names() -> None:
    tables = build_tables(8, "s")
    assert {"memory_id", "record_id", "is_latest", "version", "scope_tenant_id", "scope_user_id", "scope_tags", "text",
            "data", "metadata", "created_time"} <= set(tables.memories.columns.keys())  # fmt: skip
    assert tables.vectors.name == "memory_vector_index"
    assert {"memory_id", "field_name", "embedding", "scope_tenant_id"} <= set(tables.vectors.columns.keys())


def test_every_public_name_is_there() -> None:
    assert [name for name in omnimem.__all__ if not hasattr(omnimem, name)] == []
    assert set(omnimem.__all__) <= set(dir(omnimem))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = omnimem.nonsense
