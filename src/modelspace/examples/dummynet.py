"""The network of the lecture *Espacio de modelos*: 2512 parameters, so H = { f_p : p ∈ ℝ²⁵¹² }."""

from torch import Tensor, nn


class DummyNet(nn.Module):
    """A convolution, an in-place ReLU and a linear head, for images of 3×7×7 and ten classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 9, kernel_size=3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(225, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = x.view(-1, 225)
        return self.fc(x)
