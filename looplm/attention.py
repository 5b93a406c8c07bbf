"""Causal attention that stays inside documents, behind one `attend`; and which kernels can run it here, or why not.

- `sdpa`: PyTorch's scaled_dot_product_attention with a mask. Runs everywhere; what the others are tested against.
- `rows`: the same without a mask, every document a row of its own; where documents are too long for that to pay, the
  mask. Runs everywhere.
- `varlen`, `flash`: PyTorch's varlen_attn and the flash-attn package, over documents end to end, in bfloat16 on a GPU.
- `flex`: PyTorch's FlexAttention, on a GPU, to be compiled.

Rows that are one document each need none of this: there every choice means SDPA, causal, without a mask; or, where they
are short and a CPU runs compiled code, the same products written out (`SHORT`, `MEDIUM`).

Shapes in names: B = row, S = position, M = rows and positions flattened, H = head, K = size of a head, N = document,
L = position in a document.
"""

import importlib.util
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from looplm.config import Precision
from synthdata.batch import PADDING

AttentionName = Literal["sdpa", "rows", "varlen", "flash", "flex"]


SHORT, MEDIUM = 8, 48
"""Positions of a row up to which compiled code for a CPU sums the products of queries and keys one by one, and up to
which it multiplies them as a batch of matrices: SDPA's kernel works through rows and heads one by one, and for short
ones what it costs to begin each is most of it (`looplm bench attention`)."""


FEW_PAIRS = 0.5
"""Share of a batch's pairs of positions up to which `rows` makes rows of documents: it has to gather them and to put
them back (`looplm bench attention`)."""


class Rows(NamedTuple):
    """Documents as rows of their own.

    Attributes:
        source_NL: for each document's positions, which of M it is; anything beyond a document's end.
        place_M: where each of M is among N x L; padding anywhere.
    """

    source_NL: Tensor
    place_M: Tensor


class Ragged(NamedTuple):
    """Documents end to end.

    Attributes:
        kernel: which kernel is to run.
        offsets: int32, where each document begins in M, and M.
        longest: positions of the longest.
    """

    kernel: Literal["varlen", "flash"]
    offsets: Tensor
    longest: int


Documents = Tensor | Rows | Ragged | BlockMask
"""What keeps documents apart, prepared once a batch for one kernel; a tensor is the mask (B, 1, S, S) of `sdpa`."""


def why_not(name: AttentionName, device: str, precision: Precision) -> str | None:
    """Why this kernel cannot run here in a training of this precision; None where it can."""
    if name in ("sdpa", "rows"):
        return None
    if device != "cuda" or not torch.cuda.is_available():
        return "needs a CUDA device"
    if name == "flash" and importlib.util.find_spec("flash_attn") is None:
        return "needs flash-attn (extra [flash])"
    if name in ("varlen", "flash"):
        if precision == "32-true":
            return "needs precision bf16-mixed"
        if torch.cuda.get_device_capability() < (8, 0):
            return "needs compute capability 8.0 or later"
    return None


def choose_attention(device: str, precision: Precision) -> AttentionName:
    """On a CPU rows; else the first of flash, varlen and sdpa that runs here: `rows` would wait for the device."""
    if device == "cpu":
        return "rows"
    names: tuple[AttentionName, ...] = ("flash", "varlen")
    return next((name for name in names if why_not(name, device, precision) is None), "sdpa")


def attention_mask(documents_BS: Tensor) -> Tensor:
    """True where a position may look: at itself and at what precedes it in its own document, (B, S) -> (B, 1, S, S).

    Padding counts as one more document, so that no row of the mask is empty.
    """
    same_BSS = documents_BS.unsqueeze(2) == documents_BS.unsqueeze(1)
    return same_BSS.tril().unsqueeze(1)


def prepare(documents_BS: Tensor, name: AttentionName) -> Documents:
    """What `attend` needs to keep the documents of a batch apart. A document lies in one row without gaps.

    What becomes of padding has no meaning. All but `sdpa` and `flex` wait for the device, once.
    """
    if name == "sdpa":
        return attention_mask(documents_BS)
    rows, positions = documents_BS.shape
    if name == "flex":

        def may_look(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (documents_BS[b, query] == documents_BS[b, key])

        return create_block_mask(may_look, rows, None, positions, positions, device=documents_BS.device)
    begins_BS = torch.ones_like(documents_BS, dtype=torch.bool)
    begins_BS[:, 1:] = documents_BS[:, 1:] != documents_BS[:, :-1]
    index_M = torch.arange(rows * positions, device=documents_BS.device)
    if name == "rows":
        kept_M = (documents_BS != PADDING).flatten()
        begin_N = (begins_BS.flatten() & (kept_M | (index_M == 0))).nonzero().squeeze(1)
        document_M = torch.searchsorted(begin_N, index_M, right=True) - 1
        offset_M = (index_M - begin_N[document_M]).where(kept_M, 0)
        longest = int(offset_M.max()) + 1
        if len(begin_N) * longest**2 > FEW_PAIRS * rows * positions**2:
            return attention_mask(documents_BS)
        source_NL = (begin_N.unsqueeze(1) + index_M[:longest]).clamp(max=rows * positions - 1)
        return Rows(source_NL, document_M * longest + offset_M)
    begin_N = begins_BS.flatten().nonzero().squeeze(1)
    offsets = torch.cat([begin_N, begin_N.new_tensor([rows * positions])])
    return Ragged(name, offsets.int(), int(offsets.diff().max()))


def attend(query_BSHK: Tensor, key_BSHK: Tensor, value_BSHK: Tensor, documents: Documents | None) -> Tensor:
    """softmax(Q K^T / sqrt(K)) V over a position's own document up to itself, (B, S, H, K) each.

    Args:
        query_BSHK: queries.
        key_BSHK: keys.
        value_BSHK: values, whose precision is the result's.
        documents: what `prepare` made, or None where every row is one document.
    """
    given, precision = (query_BSHK, key_BSHK, value_BSHK), value_BSHK.dtype
    if isinstance(documents, Rows):
        query_NLHK, key_NLHK, value_NLHK = (_taken(x.flatten(0, 1), documents.source_NL) for x in given)
        mixed_NLHK = _causal(query_NLHK, key_NLHK, value_NLHK)
        return _taken(mixed_NLHK.flatten(0, 1), documents.place_M).view_as(value_BSHK)
    if isinstance(documents, Ragged):
        query_MHK, key_MHK, value_MHK = (x.flatten(0, 1).to(precision) for x in given)
        return _ragged(query_MHK, key_MHK, value_MHK, documents).view_as(value_BSHK)
    if isinstance(documents, BlockMask):
        query_BHSK, key_BHSK, value_BHSK = (x.transpose(1, 2).to(precision) for x in given)
        return flex_attention(query_BHSK, key_BHSK, value_BHSK, block_mask=documents).transpose(1, 2)
    if documents is None:
        return _causal(query_BSHK, key_BSHK, value_BSHK)
    return _sdpa(query_BSHK, key_BSHK, value_BSHK, documents)


def _taken(x_MHK: Tensor, index: Tensor) -> Tensor:
    """x_MHK[index], by the operator whose gradient is a sum of rows, not of single numbers."""
    return x_MHK.index_select(0, index.flatten()).unflatten(0, index.shape)


def _causal(query_BSHK: Tensor, key_BSHK: Tensor, value_BSHK: Tensor) -> Tensor:
    """Attention where every row is one document. Shapes as in `attend`."""
    if torch.compiler.is_compiling() and value_BSHK.is_cpu and value_BSHK.dtype == torch.float32:
        if value_BSHK.shape[1] <= SHORT:
            return summed(query_BSHK, key_BSHK, value_BSHK)
        if value_BSHK.shape[1] <= MEDIUM:
            return multiplied(query_BSHK, key_BSHK, value_BSHK)
    return _sdpa(query_BSHK, key_BSHK, value_BSHK, None)


def summed(query_BSHK: Tensor, key_BSHK: Tensor, value_BSHK: Tensor) -> Tensor:
    """Causal attention in sums of products alone, which a compiler fuses. Shapes as in `attend`; T = S, looked at."""
    positions, size = value_BSHK.shape[1], value_BSHK.shape[-1]
    score_BSTH = (query_BSHK.unsqueeze(2) * key_BSHK.unsqueeze(1)).sum(-1) * size**-0.5
    future_ST = torch.ones(positions, positions, dtype=torch.bool, device=value_BSHK.device).triu(1)
    weight_BSTH = score_BSTH.masked_fill(future_ST.unsqueeze(-1), -torch.inf).softmax(2)
    return (weight_BSTH.unsqueeze(-1) * value_BSHK.unsqueeze(1)).sum(2)


def multiplied(query_BSHK: Tensor, key_BSHK: Tensor, value_BSHK: Tensor) -> Tensor:
    """Causal attention in products of matrices, one a row and head. Shapes as in `attend`; T = S, looked at; N = B x H.

    The softmax goes over the last axis but one, so that a compiler takes several positions at a time.
    """
    rows, positions, heads, size = value_BSHK.shape
    given = (query_BSHK * size**-0.5, key_BSHK, value_BSHK)
    query_NSK, key_NTK, value_NTK = (x.transpose(1, 2).reshape(rows * heads, positions, size) for x in given)
    past_TS = torch.full((positions, positions), -torch.inf, dtype=value_BSHK.dtype, device=value_BSHK.device).tril(-1)
    weight_NTS = (torch.bmm(key_NTK, query_NSK.mT) + past_TS).softmax(1)
    return torch.bmm(weight_NTS.mT, value_NTK).view(rows, heads, positions, size).transpose(1, 2)


def _sdpa(query_BSHK: Tensor, key_BSHK: Tensor, value_BSHK: Tensor, mask_B1SS: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(
        query_BSHK.transpose(1, 2),
        key_BSHK.transpose(1, 2),
        value_BSHK.transpose(1, 2),
        attn_mask=mask_B1SS,
        is_causal=mask_B1SS is None,
    ).transpose(1, 2)


def _ragged(query_MHK: Tensor, key_MHK: Tensor, value_MHK: Tensor, documents: Ragged) -> Tensor:
    _, offsets, longest = documents
    if documents.kernel == "flash":
        from flash_attn import flash_attn_varlen_func  # an optional extra

        return flash_attn_varlen_func(query_MHK, key_MHK, value_MHK, offsets, offsets, longest, longest, causal=True)
    from torch.nn.attention.varlen import varlen_attn  # slow to import

    mixed_MHK = varlen_attn(query_MHK, key_MHK, value_MHK, offsets, offsets, longest, longest, window_size=(-1, 0))
    assert isinstance(mixed_MHK, Tensor)
    return mixed_MHK
