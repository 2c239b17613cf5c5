"""Keras layers, each faithful to its paper; they run on every Keras backend."""

from layers.augmentation.crop_average import CropAverage
from layers.augmentation.lens_distortion import LensDistortion
from layers.augmentation.pca_lighting import PCALighting
from layers.augmentation.random_resized_crop import RandomResizedCrop
from layers.augmentation.random_scale_crop import RandomScaleCrop
from layers.augmentation.random_stretch import RandomStretch
from layers.blocks.dense_block import DenseBlock
from layers.blocks.fire_block import FireBlock
from layers.blocks.highway_block import HighwayBlock
from layers.blocks.inception_block import InceptionBlock
from layers.blocks.residual_bottleneck import ResidualBottleneck
from layers.blocks.transition_block import TransitionBlock
from layers.convolutions.binary_conv import BinaryConv
from layers.convolutions.binary_dense import BinaryDense
from layers.convolutions.depthwise_separable_conv import DepthwiseSeparableConv
from layers.convolutions.fft_conv import FFTConv2D
from layers.convolutions.patch_conv import PatchConv2D
from layers.convolutions.resize_conv import ResizeConv, collapse_resize_conv
from layers.convolutions.separable_factor_conv import SeparableFactorConv, factor_convolution
from layers.convolutions.stacked_conv import StackedConv
from layers.convolutions.ternary_conv import TernaryConv
from layers.convolutions.ternary_dense import TernaryDense
from layers.convolutions.transposed_dense import TransposedDense
from layers.convolutions.winograd_conv import WinogradConv2D
from layers.exchange import exchange_convolutions
from layers.heads.knn_classifier import KNNClassifier
from layers.heads.knn_loss import KNNLoss
from layers.heads.nca_loss import NCALoss
from layers.heads.student_nca_loss import StudentNCALoss
from layers.image_by_image import ImageByImage
from layers.inner_layers import inner_layers
from layers.packing import packed_weights, unpack_weights
from layers.prelu import prelu
from layers.quantization.fake_quantize import FakeQuantize
from layers.quantization.fake_quantized_kernel import FakeQuantizedKernel, is_quantizable
from layers.strassen import strassen_product
from layers.unfolding import is_unfoldable, unfold
from layers.zeros_kept import ZerosKept

__all__ = [
    "BinaryConv",
    "BinaryDense",
    "CropAverage",
    "DenseBlock",
    "DepthwiseSeparableConv",
    "FFTConv2D",
    "FakeQuantize",
    "FakeQuantizedKernel",
    "FireBlock",
    "HighwayBlock",
    "ImageByImage",
    "InceptionBlock",
    "KNNClassifier",
    "KNNLoss",
    "LensDistortion",
    "NCALoss",
    "PCALighting",
    "PatchConv2D",
    "RandomResizedCrop",
    "RandomScaleCrop",
    "RandomStretch",
    "ResidualBottleneck",
    "ResizeConv",
    "SeparableFactorConv",
    "StackedConv",
    "StudentNCALoss",
    "TernaryConv",
    "TernaryDense",
    "TransitionBlock",
    "TransposedDense",
    "WinogradConv2D",
    "ZerosKept",
    "collapse_resize_conv",
    "exchange_convolutions",
    "factor_convolution",
    "inner_layers",
    "is_quantizable",
    "is_unfoldable",
    "packed_weights",
    "prelu",
    "strassen_product",
    "unfold",
    "unpack_weights",
]
