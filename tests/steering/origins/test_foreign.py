"""Directions of other tools: files as those tools write them are read, layers counted as they count, and what is hostile is refused."""

import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import save_file

from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.steering.directions import Direction
from glp_core.steering.origins.foreign import as_direction, read_foreign, write_control_vector

D, LAYERS = 6, 4
ROWS = torch.arange(1.0, (LAYERS + 1) * D + 1).reshape(LAYERS + 1, D)


def control_vector(path, rows, architecture="controlvector"):
    """Write what repeng writes: a tensor a layer, from layer 1 on."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    for layer, row in rows.items():
        writer.add_tensor(f"direction.{layer}", np.asarray(row))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read(path, layer=2, **options):
    return read_foreign(path, layer=layer, n_layers=LAYERS, **options).vector


def test_a_control_vector_is_read_for_its_block(tmp_path):
    rows = {layer: ROWS[layer].numpy() for layer in range(1, LAYERS)}
    path = control_vector(tmp_path / "happy.gguf", rows)
    torch.testing.assert_close(read(path), ROWS[2])
    with pytest.raises(GlpError, match=r"no vector for layer 0: it has direction\.1"):
        read(path, layer=0)
    with pytest.raises(GlpError, match="of the kind 'llama', wanted 'controlvector'"):
        read(control_vector(tmp_path / "model.gguf", rows, "llama"))


@pytest.mark.parametrize(("rows", "expected"), [(ROWS, 3), (ROWS[1:], 3)])
def test_persona_vectors_have_a_row_for_each_block_or_one_more_for_the_embeddings(tmp_path, rows, expected):
    torch.save(rows.clone(), tmp_path / "evil.pt")
    torch.testing.assert_close(read(tmp_path / "evil.pt"), ROWS[expected])


def test_a_latent_of_an_sae_is_a_row_of_its_decoder(tmp_path):
    path = tmp_path / "sae_weights.safetensors"
    save_file({"W_dec": ROWS, "W_enc": ROWS.T.contiguous()}, path)
    torch.testing.assert_close(read(path, latent=3), ROWS[3])
    with pytest.raises(GlpError, match="latents 0 to 4, got None: say which with --latent"):
        read(path)
    for facts, block in (
        ({"hook_name": "blocks.2.hook_resid_post", "hook_layer": 2}, 2),
        ({"metadata": {"hook_name": "blocks.3.hook_resid_pre"}}, 2),
        ({"hook_name": "blocks.1.hook_resid_post"}, 1),
        ({"hook_name": "blocks.2.hook_mlp_out"}, None),
        ({"d_in": D}, 2),
    ):
        write_json(tmp_path / "cfg.json", facts)
        if block == 2:
            torch.testing.assert_close(read(path, latent=3), ROWS[3])
        else:
            with pytest.raises(GlpError, match=f"{'block 1' if block else 'no block'}.*; wanted that of block 2"):
                read(path, latent=3)
    (tmp_path / "cfg.json").unlink()
    of_sparsify = tmp_path / "layers.1" / "sae.safetensors"
    of_sparsify.parent.mkdir()
    shutil.copy(path, of_sparsify)
    with pytest.raises(GlpError, match=r"reads 'layers\.1', the output of block 1"):
        read(of_sparsify, latent=3)
    torch.testing.assert_close(read(of_sparsify, layer=1, latent=3), ROWS[3])
    save_file({"encoder.weight": ROWS}, path)
    with pytest.raises(GlpError, match="no W_dec"):
        read(path, latent=0)


class Runs:
    def __reduce__(self):
        return open, ("/nonexistent/ran", "w")


@pytest.mark.parametrize("content", [{"a": 1}, torch.arange(12).reshape(4, 3), ROWS[:2].clone()])
def test_what_is_no_table_of_vectors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(GlpError, match=r"x\.pt (holds no table|has 2 rows, wanted 4)"):
        read(tmp_path / "x.pt")


def test_hostile_files_are_refused_in_a_sentence_and_nothing_runs(tmp_path):
    hostile = {
        "code.pt": pickle.dumps(Runs()),
        "cut.pt": b"PK\x03\x04",
        "noise.gguf": bytes(range(256)) * 4,
        "many.gguf": struct.pack("<4sIQQ", b"GGUF", 3, 2**62, 2**62),
        "nested.gguf": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
        + struct.pack("<Q1sI", 1, b"a", 9)
        + struct.pack("<IQ", 9, 1) * 5000,
        "none.safetensors": b"\xff" * 64,
        "x.bin": b"",
    }
    for name, data in hostile.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(GlpError, match=name):
            read(tmp_path / name, latent=0)
    with pytest.raises(GlpError, match="There is no file"):
        read(tmp_path / "nothing.pt")
    torch.save(torch.full((LAYERS, D), torch.nan), tmp_path / "nan.pt")
    with pytest.raises(GlpError, match="no finite vector"):
        read(tmp_path / "nan.pt")


def test_an_imported_direction_is_kept_without_a_probe_and_goes_out_as_a_control_vector_again(tmp_path):
    path = control_vector(tmp_path / "happy.gguf", {2: ROWS[2].numpy()})
    found = read_foreign(path, layer=2, n_layers=LAYERS)
    made = as_direction(found, name="happy", title="happy", layer=2, median_norm=10.0, width=D)
    kept = Direction.load(made.save(tmp_path))
    torch.testing.assert_close(kept.vector, ROWS[2] / ROWS[2].norm())
    assert torch.isnan(kept.concept(ROWS)).all() and "its own length is" in kept.how
    write_control_vector(kept, tmp_path / "out.gguf", model_type="llama")
    [tensor] = GGUFReader(tmp_path / "out.gguf").tensors
    assert tensor.name == "direction.2"  # llama.cpp and repeng: added to the output of block 2, counted from 0
    np.testing.assert_allclose(tensor.data, 10 * kept.vector.numpy(), rtol=1e-6)  # scale 1 is a push of one median norm
    torch.testing.assert_close(read(tmp_path / "out.gguf"), 10 * kept.vector)
    with pytest.raises(GlpError, match="has 6 numbers, wanted 8"):
        as_direction(found, name="x", title="x", layer=2, median_norm=1.0, width=8)
    first = as_direction(found, name="x", title="x", layer=0, median_norm=1.0, width=D)
    with pytest.raises(GlpError, match="block 0"):
        write_control_vector(first, tmp_path / "x.gguf", model_type="llama")
