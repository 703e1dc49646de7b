"""The models of an ensemble: each knows its vocabulary and keeps a row of KV cache for every running sequence."""
