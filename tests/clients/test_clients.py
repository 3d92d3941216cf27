"""Real clients get the vectors of the reference implementation."""

import pathlib

import litellm
import openai
import pytest
import requests
from conftest import cosines
from huggingface_hub import InferenceClient
from langchain_huggingface import HuggingFaceEndpointEmbeddings
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

MODEL = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_openai_default_is_base64(client, golden):
    answer = client.embeddings.create(model=MODEL, input=golden["texts"])
    vectors = [entry.embedding for entry in answer.data]
    assert cosines(vectors, golden["vectors"]).min() >= 0.99999
    assert answer.usage.prompt_tokens == sum(golden["tokens"])
    assert [entry.index for entry in answer.data] == list(range(len(vectors)))


def test_openai_float_and_dimensions(client, golden):
    answer = client.embeddings.create(
        model=MODEL, input=golden["texts"], encoding_format="float", dimensions=64
    )
    vectors = [entry.embedding for entry in answer.data]
    assert cosines(vectors, golden["vectors"][:, :64]).min() >= 0.99999


def test_openai_token_ids(client, golden):
    with_ids = client.embeddings.create(model=MODEL, input=[[101, 7592, 2088, 102]])
    with_text = client.embeddings.create(model=MODEL, input="hello world")
    assert with_ids.data[0].embedding == with_text.data[0].embedding
    assert with_ids.usage.total_tokens == 4


def test_openai_models(client):
    served = [model.id for model in client.models.list().data]
    assert served == [MODEL, "reranker", "classifier", "e2rank", "vision"]
    assert client.models.retrieve(MODEL).id == MODEL


def test_openai_errors_have_the_classes_that_clients_expect(client):
    with pytest.raises(openai.NotFoundError, match="served: all-MiniLM-L6-v2"):
        client.embeddings.create(model="gpt-5", input="a")
    for wrong in [{"input": []}, {"input": "a", "dimensions": 385}, {"input": [[40000]]}]:
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, **wrong)


def test_huggingface_hub(address, golden):
    client = InferenceClient(model=address)
    for text, vector in list(zip(golden["texts"], golden["vectors"]))[:4]:
        got = client.feature_extraction(text)
        assert cosines(got.reshape(-1), vector) >= 0.99999


def test_langchain_openai(address, golden):
    embeddings = OpenAIEmbeddings(
        model=MODEL, base_url=f"{address}/v1", api_key="none", check_embedding_ctx_length=False
    )
    vectors = embeddings.embed_documents(golden["texts"])
    assert cosines(vectors, golden["vectors"]).min() >= 0.99999
    assert cosines(embeddings.embed_query(golden["texts"][0]), golden["vectors"][0]) >= 0.99999


def test_langchain_openai_in_its_default_is_told_to_send_text(address, monkeypatch):
    """It sends ids of tiktoken, which as ids of the model's own tokenizer mean something else."""
    # litellm brings the file that tiktoken would fetch.
    files = pathlib.Path(litellm.__file__).parent / "litellm_core_utils/tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(files))
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=f"{address}/v1", api_key="none")
    for embed in [lambda: embeddings.embed_query("hello world"), lambda: embeddings.embed_documents(["a", "b"])]:
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False.*--token-ids allow"):
            embed()


def test_langchain_huggingface_endpoint(address):
    # This client puts spaces where a text has line breaks, so it gets texts without.
    texts = ["hello world", "What is the capital of China?"]
    embeddings = HuggingFaceEndpointEmbeddings(model=f"sentence-transformers/{MODEL}")
    # Its constructor takes no address of one's own any more; its client does.
    embeddings.client = InferenceClient(model=address)
    expected = requests.post(f"{address}/embed", json={"inputs": texts}).json()
    assert cosines(embeddings.embed_documents(texts), expected).min() >= 0.999999
    assert cosines(embeddings.embed_query(texts[1]), expected[1]) >= 0.999999


def test_llama_index(address, golden):
    tei = TextEmbeddingsInference(base_url=address, model_name=MODEL, timeout=60)
    # This client puts a space between its (empty) instruction and a text; the tokenizer drops it.
    vectors = tei.get_text_embedding_batch(golden["texts"][:5])
    assert cosines(vectors, golden["vectors"][:5]).min() >= 0.99999
    compatible = OpenAIEmbedding(model_name=MODEL, api_base=f"{address}/v1", api_key="none")
    text = "hello world"
    expected = requests.post(f"{address}/embed", json={"inputs": text}).json()[0]
    assert cosines(compatible.get_text_embedding(text), expected) >= 0.99999


def test_alone_and_in_a_batch_are_the_same_to_the_last_digit(address, golden):
    together = requests.post(f"{address}/embed", json={"inputs": golden["texts"]}).json()
    for text, vector in zip(golden["texts"], together):
        assert requests.post(f"{address}/embed", json={"inputs": text}).json() == [vector]
