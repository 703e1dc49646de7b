"""Servers of every kind as their documentation has them, in this process, with a tiny random model behind each."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from tests import toy_tokenizers
from tests.models import make_model

MODEL = "tiny/model"
CONTEXT = 128


@cache
def tiny_model():
    return make_model("llama", vocab_size=num_logits(), max_position_embeddings=CONTEXT)


@cache
def tokenizer():
    return toy_tokenizers.byte_level_bpe()


def num_logits():
    return len(tokenizer()) + 3


def save_tokenizer(folder):
    """What people have of a server's model: its tokenizer and its settings."""
    tokenizer().save_pretrained(folder)
    tiny_model().config.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer().eos_token_id]}))
    return str(folder)


class Refusal(Exception):
    """Answered with a status of its own."""

    def __init__(self, status, body=None, headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class Double:
    """A server on a port of its own. `requests` holds every path and body, `headers` those of the last request.

    `before` is called with the handler, the path and the body of every request and may answer in its place: it raises
    a `Refusal`, or returns True where it has written something itself. `change` may alter the answer.
    """

    owned_by = ""
    port: int

    def __init__(self, port: int = 0):
        self.requests: list[tuple[str, dict]] = []
        self.headers: dict[str, str] = {}
        self.before: Callable = lambda handler, path, body: False
        self.change: Callable = lambda path, answer: answer
        self.max_top = 10**6
        self.models = [MODEL]
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = port
        self.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Listen, again on the same port after `stop`."""
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                double._handle(self, {})

            def do_POST(self):
                double._handle(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def setup(self):
                super().setup()
                double._connections.append(self.connection)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Die: nobody listens any more, and connections are cut."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in self._connections:
            cut(connection)
        self._connections.clear()

    def answer(self, path, body):
        """The answer of this kind of server; raises KeyError for a path that it does not have."""
        raise NotImplementedError

    def tell(self, ids, num):
        """The `num` best next tokens after these, and their log-probabilities, the best first."""
        with self._lock, torch.inference_mode():
            logprobs = tiny_model()(torch.tensor([ids])).logits[0, -1].log_softmax(dim=-1)
        top = logprobs.topk(min(num, len(logprobs)))
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

    def card(self, name):
        return {"id": name, "object": "model", "created": 1, "owned_by": self.owned_by}

    def text(self, token_id):
        return tokenizer().decode([token_id])

    def encode(self, text):
        return tokenizer().encode(text, add_special_tokens=False)

    def _handle(self, handler, body):
        path = handler.path
        self.requests.append((path, body))
        self.headers = dict(handler.headers)
        try:
            if self.before(handler, path, body):
                return
            if path == "/v1/models":
                answer = {"object": "list", "data": [self.card(name) for name in self.models]}
            else:
                answer = self.answer(path, body)
            self._write(handler, 200, self.change(path, answer), {})
        except Refusal as refusal:
            self._write(handler, refusal.status, refusal.body, refusal.headers)
        except KeyError:
            self._write(handler, 404, {"detail": "Not Found"}, {})

    def _write(self, handler, status, answer, headers):
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


class LlamaServer(Double):
    """tools/server/README.md of llama.cpp, as a real one of October 2026 answers."""

    owned_by = "llamacpp"
    num_slots = 4

    def card(self, name):
        meta = {"vocab_type": 2, "n_vocab": num_logits(), "n_ctx": CONTEXT, "n_params": 1234}
        return {**super().card(name), "aliases": [f"alias-of-{name}"], "meta": meta}

    def answer(self, path, body):
        if path == "/props":
            return {"default_generation_settings": {"n_ctx": CONTEXT}, "total_slots": self.num_slots}
        if path == "/tokenize":
            assert body["add_special"] is False and body["parse_special"] is False
            return {"tokens": self.encode(body["content"])}
        return {"/completion": self.complete}[path](body)

    def complete(self, body):
        if len(body["prompt"]) >= CONTEXT:
            raise Refusal(400, {"error": {"code": 400, "message": "exceeds the available context size"}})
        assert body["n_predict"] == 1 and body["cache_prompt"] is True
        assert body["response_fields"] == ["completion_probabilities"]
        assert -1 <= body["id_slot"] < self.num_slots
        top = [
            {"id": token_id, "token": self.text(token_id), "bytes": [65], "logprob": logprob}
            for token_id, logprob in self.tell(body["prompt"], min(body["n_probs"], self.max_top))
        ]
        drawn = body["logit_bias"][0][0] if "logit_bias" in body else top[0]["id"]
        if "\ufffd" in self.text(drawn):
            return {}  # nothing is told of a part of a character
        return {"completion_probabilities": [{"id": drawn, "top_logprobs": top}]}


class Sglang(Double):
    """`/generate` of SGLang's native API."""

    owned_by = "sglang"
    tokenizer_path: str | None = None

    def card(self, name):
        return {**super().card(name), "root": name, "max_model_len": CONTEXT}

    def answer(self, path, body):
        if path == "/get_model_info":
            return {"model_path": MODEL, "tokenizer_path": self.tokenizer_path, "is_generation": True}
        if path == "/tokenize":
            assert body["add_special_tokens"] is False
            tokens = self.encode(body["prompt"])
            return {"tokens": tokens, "count": len(tokens), "max_model_len": CONTEXT}
        return {"/generate": self.generate}[path](body)

    def generate(self, body):
        assert body["return_logprob"] is True and body["sampling_params"]["max_new_tokens"] == 1
        if "text" in body:
            assert body["logprob_start_len"] == 0
            ids = self.encode(body["text"])
            entries = [[None if place == 0 else -1.5, token_id, None] for place, token_id in enumerate(ids)]
            return {"text": "", "meta_info": {"prompt_tokens": len(ids), "input_token_logprobs": entries}}
        assert body["logprob_start_len"] == -1, "a step must keep the prefix cache"
        assert body["sampling_params"]["temperature"] == 0
        return [self._generate(ids, body["top_logprobs_num"]) for ids in body["input_ids"]]

    def _generate(self, ids, num):
        if len(ids) >= CONTEXT:
            raise Refusal(400, {"error": {"message": "longer than the model's context length"}})
        top = [[logprob, token_id, None] for token_id, logprob in self.tell(ids, min(num, self.max_top))]
        meta = {"prompt_tokens": len(ids), "output_token_logprobs": [top[0]], "output_top_logprobs": [top]}
        return {"text": self.text(top[0][1]), "output_ids": [top[0][1]], "meta_info": meta}


class Vllm(Double):
    """`/v1/completions` of vLLM with `return_tokens_as_token_ids`."""

    owned_by = "vllm"

    def card(self, name):
        return {**super().card(name), "root": "no/such-place", "parent": None, "max_model_len": CONTEXT}

    def answer(self, path, body):
        assert body["model"] in self.models
        if path == "/tokenize":
            assert body["add_special_tokens"] is False
            tokens = self.encode(body["prompt"])
            return {"count": len(tokens), "max_model_len": CONTEXT, "tokens": tokens, "token_strs": None}
        return {"/v1/completions": self.complete}[path](body)

    def complete(self, body):
        assert body["max_tokens"] == 1 and body["temperature"] == 0 and "prompt_logprobs" not in body
        assert body["return_tokens_as_token_ids"] is True
        if body["logprobs"] > self.max_top:
            message = (
                f"Requested sample logprobs of {body['logprobs']}, which is greater than max allowed: {self.max_top}"
            )
            raise Refusal(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
        choices = [self._choice(at, ids, body["logprobs"]) for at, ids in enumerate(body["prompt"])]
        return {"id": "cmpl-1", "object": "text_completion", "model": MODEL, "choices": choices[::-1]}

    def _choice(self, index, ids, num):
        if len(ids) >= CONTEXT:
            raise Refusal(400, {"error": {"message": "maximum context length"}})
        told = self.tell(ids, num + 1)  # the one that was drawn, and the best
        top = {f"token_id:{token_id}": max(logprob, -9999.0) for token_id, logprob in told}
        best = f"token_id:{told[0][0]}"
        logprobs = {"text_offset": [0], "token_logprobs": [told[0][1]], "tokens": [best], "top_logprobs": [top]}
        return {"index": index, "text": self.text(told[0][0]), "logprobs": logprobs, "finish_reason": "length"}


class Deepen(Vllm):
    """This library's own."""

    owned_by = "deepen"


DOUBLES = {"llama-server": LlamaServer, "sglang": Sglang, "vllm": Vllm, "deepen": Deepen}


def cut(connection):
    """Reset a connection, as a process that dies does."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    except OSError:
        pass  # it was closed before
