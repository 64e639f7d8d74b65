"""The networks: windows in, one logit per activity out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from models.nets.worn import Worn


@dataclass(frozen=True, slots=True)
class LstmConfig:
    """Sizes of the published LSTM.

    Attributes:
        hidden: width of the linear layer and of both LSTM layers.
        layers: LSTM layers.
    """

    hidden: int = 32
    layers: int = 2


@dataclass(frozen=True, slots=True)
class ConvLstmConfig:
    """Sizes of the LSTM behind convolutions.

    Attributes:
        stem: channels of the convolutions, each of which halves the time axis.
        hidden: width of the LSTM layers.
        layers: LSTM layers.
        kernel: length of the convolutions, odd.
        head_dropout: share of pooled features dropped when training.
    """

    stem: tuple[int, ...]
    hidden: int
    layers: int = 1
    kernel: int = 5
    head_dropout: float = 0.3


@dataclass(frozen=True, slots=True)
class CnnConfig:
    """Sizes of the residual CNN.

    Attributes:
        widths: channels of the residual blocks; each block after the first halves the time axis.
        kernel: length of the blocks' convolutions, odd.
        stem_kernel: length of the first convolution, odd.
        stem_stride: stride of the first convolution.
        block_dropout: share of activations dropped inside a block when training.
        head_dropout: share of pooled features dropped when training.
    """

    widths: tuple[int, ...]
    kernel: int = 5
    stem_kernel: int = 7
    stem_stride: int = 2
    block_dropout: float = 0.1
    head_dropout: float = 0.3


NetworkConfig = LstmConfig | ConvLstmConfig | CnnConfig


class Network(nn.Module):
    """What training and export know about a network.

    Attributes:
        scale: (channels,) float32 buffer; windows are divided by it first.
        head: the last layer, from features to a logit per output: labels, then passages.
        worn: what tells watches that nobody wears, None where that was not taught; it is no part of the logits.
    """

    scale: Tensor
    head: nn.Linear
    worn: Worn | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.worn = None
        self.register_buffer("scale", torch.ones(channels))

    def features(self, windows: Tensor) -> Tensor:
        """What the last layer is given, (batch, features), of windows (batch, window_len, channels)."""
        raise NotImplementedError

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (batch, outputs) of windows (batch, window_len, channels), in the spec's units."""
        return cast("Tensor", self.head(self.features(windows)))

    def __call__(self, windows: Tensor) -> Tensor:
        """As `forward`."""
        return cast("Tensor", super().__call__(windows))


class Lstm(Network):
    """Linear + ReLU, stacked LSTM, last step, linear.

    Source: guillaume-chevalier/LSTM-Human-Activity-Recognition, whose published accuracy on UCI HAR is 91.65 %.
    """

    def __init__(self, config: LstmConfig, channels: int, outputs: int) -> None:
        super().__init__(channels)
        self.embed = nn.Linear(channels, config.hidden)
        self.lstm = nn.LSTM(config.hidden, config.hidden, config.layers, batch_first=True)
        self.head = nn.Linear(config.hidden, outputs)

    def features(self, windows: Tensor) -> Tensor:
        """The last step, (batch, hidden)."""
        steps, _ = self.lstm(torch.relu(self.embed(windows / self.scale)))
        return cast("Tensor", steps[:, -1])


class NormedConv(nn.Module):
    """A convolution over time and its batch normalisation; export folds the two into one.

    Time is the last of two axes, the other of length 1: so torch keeps the channels of a step together in memory, by
    which a CPU trains a fifth faster.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, outputs, 1, time / stride) of (batch, inputs, 1, time)."""
        kernels, stride = self.conv.weight[:, :, None], self.conv.stride[0]
        return cast("Tensor", self.norm(conv2d(x, kernels, None, (1, stride), (0, kernels.shape[3] // 2))))


def _channels_last(windows: Tensor) -> Tensor:
    """Windows (batch, time, channels) as convolutions take them, (batch, channels, 1, time), where they lie."""
    return windows[:, None].permute(0, 3, 1, 2)


class ConvLstm(Network):
    """Convolutions that shorten the time axis, stacked LSTM, mean and maximum over its steps, linear.

    Source: Ordóñez and Roggen, Deep convolutional and LSTM recurrent neural networks for multimodal wearable activity
    recognition, Sensors 16(1), 2016; strided here, and pooled over the steps in place of taking the last.
    """

    def __init__(self, config: ConvLstmConfig, channels: int, outputs: int) -> None:
        super().__init__(channels)
        self.stem = nn.Sequential(
            *(
                NormedConv(before, after, kernel=config.kernel, stride=2)
                for before, after in zip((channels, *config.stem[:-1]), config.stem, strict=True)
            )
        )
        self.lstm = nn.LSTM(config.stem[-1], config.hidden, config.layers, batch_first=True)
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(2 * config.hidden, outputs)

    def features(self, windows: Tensor) -> Tensor:
        """Mean and maximum over the steps, (batch, 2 * hidden)."""
        x = _channels_last(windows / self.scale)
        for layer in self.stem:
            x = torch.relu(layer(x))
        steps, _ = self.lstm(x.squeeze(2).transpose(1, 2))
        return cast("Tensor", self.dropout(torch.cat([steps.mean(1), steps.amax(1)], 1)))

    def convolutions(self) -> list[NormedConv]:
        """The convolutions in order."""
        return cast("list[NormedConv]", list(self.stem))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of length 1 where sizes change.

    Source: He et al., Deep residual learning for image recognition, 2016, in one dimension.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = NormedConv(inputs, outputs, kernel=kernel, stride=stride)
        self.second = NormedConv(outputs, outputs, kernel=kernel)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else NormedConv(inputs, outputs, kernel=1, stride=stride)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, outputs, 1, time / stride) of (batch, inputs, 1, time)."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(self.second(self.dropout(torch.relu(self.first(x)))) + shortcut)


class Cnn(Network):
    """A residual 1-D CNN with mean and maximum over time before the last layer."""

    def __init__(self, config: CnnConfig, channels: int, outputs: int) -> None:
        super().__init__(channels)
        widths = config.widths
        self.stem = NormedConv(channels, widths[0], kernel=config.stem_kernel, stride=config.stem_stride)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(inputs, outputs, kernel=config.kernel, stride=2 if i else 1, dropout=config.block_dropout)
                for i, (inputs, outputs) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True))
            )
        )
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(2 * widths[-1], outputs)

    def features(self, windows: Tensor) -> Tensor:
        """Mean and maximum over time, (batch, 2 * widths[-1])."""
        x = self.blocks(torch.relu(self.stem(_channels_last(windows / self.scale)))).squeeze(2)
        return cast("Tensor", self.dropout(torch.cat([x.mean(2), x.amax(2)], 1)))

    def residual_blocks(self) -> list[ResidualBlock]:
        """The blocks in order."""
        return cast("list[ResidualBlock]", list(self.blocks))


def build(config: NetworkConfig, *, channels: int, outputs: int) -> Network:
    """A network with fresh weights, from torch's global generator."""
    if isinstance(config, LstmConfig):
        return Lstm(config, channels, outputs)
    if isinstance(config, ConvLstmConfig):
        return ConvLstm(config, channels, outputs)
    return Cnn(config, channels, outputs)


def parameter_count(network: Network) -> int:
    """Trained numbers in a network, those that learn no further included."""
    return sum(parameter.numel() for parameter in network.parameters())
