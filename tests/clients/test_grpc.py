"""Stubs that Python generates from the protos talk to the server."""

import base64
import io
import pathlib
import sys

import grpc
import PIL.Image
import pytest
import requests
from conftest import scored
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).parents[2] / "openapi"


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The modules tei_pb2, tei_pb2_grpc, proxima_pb2 and proxima_pb2_grpc."""
    folder = tmp_path_factory.mktemp("stubs")
    for name in ["tei", "proxima"]:
        flags = [f"-I{PROTOS}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
        assert protoc.main(["protoc", *flags, str(PROTOS / f"{name}.proto")]) == 0
    sys.path.insert(0, str(folder))
    import proxima_pb2
    import proxima_pb2_grpc
    import tei_pb2
    import tei_pb2_grpc

    return tei_pb2, tei_pb2_grpc, proxima_pb2, proxima_pb2_grpc


@pytest.fixture(scope="session")
def channel(grpc_address):
    with grpc.insecure_channel(grpc_address) as channel:
        yield channel


def test_embed_equals_http(stubs, channel, address):
    tei, services, *_ = stubs
    client = services.EmbedStub(channel)
    texts = ["hello world", "", "日本語"]
    expected = requests.post(f"{address}/embed", json={"inputs": texts}).json()
    for text, vector in zip(texts[::2], expected[::2]):
        assert list(client.Embed(tei.EmbedRequest(inputs=text)).embeddings) == pytest.approx(vector, abs=1e-7)
    replies = client.EmbedStream(iter([tei.EmbedRequest(inputs=text) for text in texts[::2]]))
    assert [len(reply.embeddings) for reply in replies] == [384, 384]
    with pytest.raises(grpc.RpcError) as refused:
        client.Embed(tei.EmbedRequest(inputs="word " * 1000))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_rerank_equals_the_reference(stubs, channel):
    tei, services, *_ = stubs
    cases = scored("xlmr-reranker")
    query = cases[0]["query"]
    logits = {case["document"]: case["logits"][0] for case in cases if case["query"] == query}
    request = tei.RerankRequest(query=query, texts=logits, truncate=True, raw_scores=True, return_text=True)
    ranks = services.RerankStub(channel).Rerank(request).ranks
    assert [rank.text for rank in ranks] == sorted(logits, key=logits.get, reverse=True)
    assert [rank.score for rank in ranks] == pytest.approx(sorted(logits.values(), reverse=True), abs=1e-3)


def test_listwise_through_our_own_api(stubs, channel, address):
    *_, own, services = stubs
    documents = [f"passage {number}" for number in range(26)]
    request = own.RerankRequest(query="which", documents=documents, model="e2rank")
    reply = services.ProximaStub(channel).Rerank(request)
    body = {"query": "which", "documents": documents, "model": "e2rank"}
    expected = requests.post(f"{address}/rerank", json=body).json()["results"]
    assert [place.index for place in reply.results] == [place["index"] for place in expected]


def test_health_and_reflection(channel):
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"tei.v1.Embed", "tei.v1.Rerank", "proxima.v1.Proxima"} <= services
    method = DescriptorPool(database).FindMethodByName("tei.v1.Embed.Embed")
    assert method.input_type.fields_by_name["truncation_direction"].number == 4


def test_items_equal_http(stubs, channel, address):
    *_, own, services = stubs
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), "red").save(file, "PNG")
    png = file.getvalue()
    item = own.Item(parts=[own.Part(image=own.File(bytes=png)), own.Part(text="a dot")])
    reply = services.ProximaStub(channel).Embed(own.EmbedRequest(model="vision", inputs=[own.Input(item=item)]))
    body = {"model": "vision", "inputs": {"text": "a dot", "image": base64.b64encode(png).decode()}}
    expected = requests.post(f"{address}/embed", json=body).json()[0]
    assert list(reply.vectors[0].floats) == pytest.approx(expected, abs=1e-6)
    request = own.RerankRequest(model="vision", query_item=item, document_items=[item, item])
    assert [place.index for place in services.ProximaStub(channel).Rerank(request).results] == [0, 1]
