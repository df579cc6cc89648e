"""E-process against "no harm", or "of some use": evidence from lots that may be looked at after every episode.

A lot served an episode an item with probability q, and it was won (Y = 1) or not. Whatever the episode was, the number
X = (Y - m) (S / q - (1 - S) / (1 - q)), with S = 1 if it was served, has the item's effect on that episode for its mean
(Horvitz & Thompson 1952, with m as the control variate). So a bet of the share b on harm multiplies a stake by 1 - b X,
which is a fair game where the effect is 0 and a losing one where it helps. The stake is an e-process (Ramdas, Grünwald,
Vovk & Shafer 2023): that it ever reaches 1 / alpha has a probability of at most alpha (Ville 1939), however often one
looks, whatever decided which episodes there were, and however chances differ between them.

Against a use of at least w the factor is 1 - b (X - w), which is fair where the effect is just w.

m and b are not known in advance, and to choose them by looking would be no fair game. So the stake is divided among a
few of each beforehand (method of mixtures, Robbins 1970). The bets b are kappa q (1 - q), which weighs episodes as
their precision does, and no bet can be lost whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CENTRES = (0.15, 0.5, 0.85)
"""The rates of success among which the stake is divided."""

SHARES = (0.15, 0.35, 0.8)
"""The bets, as shares of the largest that could not be lost whole."""


def log_stakes(counts: np.ndarray, odds: np.ndarray, use: float = 0.0) -> np.ndarray:
    """The logarithm of each stake on an effect below `use` in [0, 1), with 0 on harm: (…, stakes).

    `counts` (…, 4) are episodes served, of them won, held out, of them won; `odds` (…) the probability with which a lot
    served the item. Stakes of several strata add up; `log_e_value` makes one of them. Exchange won and not won to bet
    on help.
    """
    import numpy as np

    centre = np.repeat(CENTRES, len(SHARES))
    kappa = np.tile(SHARES, len(CENTRES)) / np.maximum(centre, 1 - centre)
    served, won, held_out, held_out_won = np.moveaxis(np.asarray(counts, float), -1, 0)[..., None]
    q = np.asarray(odds, float)[..., None]
    more = kappa * q * (1 - q) * use
    return (
        won * np.log1p(more - kappa * (1 - q) * (1 - centre))
        + (served - won) * np.log1p(more + kappa * (1 - q) * centre)
        + held_out_won * np.log1p(more + kappa * q * (1 - centre))
        + (held_out - held_out_won) * np.log1p(more - kappa * q * centre)
    )


def log_e_value(stakes: np.ndarray) -> np.ndarray:
    """The logarithm of the whole stake (…) from its parts (…, stakes), each of which began with the same share of 1."""
    import numpy as np
    from scipy.special import logsumexp

    return np.asarray(logsumexp(stakes, axis=-1)) - np.log(stakes.shape[-1])


def mirrored(counts: np.ndarray) -> np.ndarray:
    """The same counts (…, 4) with won and not won exchanged: harm becomes help."""
    import numpy as np

    counts = np.asarray(counts)
    n = counts[..., [0, 0, 2, 2]]
    return np.where([False, True, False, True], n - counts, counts)
