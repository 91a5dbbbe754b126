"""EM training on handwritten formulas: digits and operators, only the value of the formula is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.formula.formulas import BLANK, N_DIGITS, automaton, lengths, write
from emnesy_gpu.tasks.formula.settings import FormulaSettings
from emnesy_gpu.tasks.mnist.images import DataSet, Images
from emnesy_gpu.tasks.mnist.nets import BUILDERS
from emnesy_gpu.tasks.mnist.rows import Rows, RowTraining


class ReadsBlank(nn.Module):
    """Reads black images as one more class, and all others by a net.

    Left to the net, the black images behind "3" can also be "* 1 * 1", which has the same value.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images [n, 1, 28, 28] to logits [n, classes of the net + 1]."""
        symbols = F.pad(self.net(images), (0, 1), value=-torch.inf)
        blank = torch.full_like(symbols, -torch.inf)
        blank[:, -1] = 0.0
        is_black = images.amax((1, 2, 3)) == images.amin((1, 2, 3))
        return torch.where(is_black[:, None], blank, symbols)


class FormulaTraining(RowTraining):
    """One run on formulas of MNIST digits and drawn operators, which the seed draws too.

    The net reads every symbol as one of 14 classes. It does not know the place of a symbol: that operators stand
    between digits is knowledge of the automaton.
    """

    unit = "formula"

    def __init__(self, settings: FormulaSettings, data: DataSet) -> None:
        size = settings.symbols, settings.mixed

        def lay_out(images: Images, order: Tensor, generator: torch.Generator) -> Rows:
            return write(images, order, lengths(*size), generator)

        super().__init__(settings, automaton(*size), data, Sampling(settings.seed), lay_out)

    def build_net(self) -> nn.Module:
        """Return the net of the settings with 14 outputs, beside blank for black images if lengths are mixed."""
        return ReadsBlank(BUILDERS[self.settings.net](BLANK)) if self.settings.mixed else super().build_net()

    def evaluate(self) -> dict[str, float]:
        """Judge the test images, each read by argmax over digits and operators, wherever it stands.

        value_accuracy: formulas whose symbols have the right value; the digits are grouped in the order of the file.
        symbol_accuracy, digit_accuracy, operator_accuracy: images right, of all, of digits, of operators. The black
        image behind shorter formulas counts as one symbol.
        """
        true = self.test.images.classes
        predicted = self.predict(self.test.images.pixels)
        right, is_digit = (predicted == true).double(), true < N_DIGITS
        is_operator = ~is_digit & (true < BLANK)
        return {
            "value_accuracy": self.label_accuracy(predicted),
            "symbol_accuracy": float(right.mean()),
            "digit_accuracy": float(right[is_digit].mean()),
            "operator_accuracy": float(right[is_operator].mean()),
        }
