"""The exit distribution: when a token leaves the loop. From gate logits to probabilities, in log space; no losses here.

Shapes in names: R = exit, N = position (any trailing shape is allowed in its place).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def exit_log_probabilities(gate_logits_RN: Tensor) -> Tensor:
    """log p_t of leaving at exit t, for gate logits g: (R, ...) -> (R, ...).

    With lambda_t = sigmoid(g_t), p_t = lambda_t * prod_{s<t} (1 - lambda_s) for t < R, and the last exit takes what is
    left, p_R = prod_{s<R} (1 - lambda_s), so that the last gate logit is never used (Ouro, arXiv 2510.25741, Eq. 3).
    """
    certain_1N = torch.zeros_like(gate_logits_RN[:1])
    stay_RN = F.logsigmoid(-gate_logits_RN[:-1]).cumsum(0)
    leave_RN = F.logsigmoid(gate_logits_RN[:-1])
    return torch.cat([leave_RN, certain_1N]) + torch.cat([certain_1N, stay_RN])
