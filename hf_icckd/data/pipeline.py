"""From a loaded data set to batches: image size, memory or disk, augmentation, channel statistics."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from hf_icckd.data.channel_statistics import Channels, channel_statistics
from hf_icckd.data.decoded import DecodedImages
from hf_icckd.data.framed import at_size
from hf_icckd.data.framing import LARGE, Framing, border_colour, framing_for
from hf_icckd.data.image_cache import ShrunkImages, check_side
from hf_icckd.data.images import CROP_MODES, CropMode, read_image, scale_to_longest
from hf_icckd.data.kept_batches import KeptBatches
from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.mixing import MixedImages
from hf_icckd.data.pixel_reading import pixel_reading, some_rows
from hf_icckd.data.resampling import ResampledImages
from hf_icckd.data.resident import ResidentImages, load_split
from hf_icckd.data.sampling import BatchDataset, BatchKey
from hf_icckd.data.sources.image_data import UNLABELED, ImageData
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.stored_image import Decoding, jpeg_decoder
from hf_icckd.data.streamed import StreamedImages
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.options.checks import check_number
from hf_icckd.options.data import RESIDENT_MAX_BYTES
from hf_icckd.options.imbalance import Sampling

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec

logger = logging.getLogger(__name__)

SMALL_IMAGE = 96
STANDARD = Augmentation()  # crops and mirrors
_STATISTICS_IMAGES = 2048
_STATISTICS_PIECE = 16
_PAYS = 6  # longer side of images over that of batches: copies are then decoded in less than half the time


class ImagePipeline:
    """Prepares the splits of a data set as torch data sets that return whole batches.

    Small images (up to 96 pixels) are read once and kept in memory on the device if they fit; their augmentation
    starts with a random crop with padding. Larger ones are decoded by workers as needed and get a random resized crop.

    Args:
        augmentation: Changes to training images; None for none.
        image_size: Side of the batches in pixels; None for the images' own if they are small, else `default_size`.
        default_size: Side that large images are scaled to.
        max_size: Largest side of small images: larger ones are scaled down to it.
        crop_pct: Share of the short side that evaluation keeps of a large image.
        interpolation: How images are scaled: nearest, bilinear, bicubic or lanczos.
        crop_mode: What becomes of the longer side in evaluation, see `Framing`; None for the images to decide: border
            if they are small and not all square, else center.
        mean: Channel means of the net that the images are for, which give the colour of borders; None for those of
            the training images.
        teacher: Classifier whose pixels are kept in memory too, where they differ; see `BatchDataset.with_teacher`.
        resident_max_bytes: Largest split that is kept in memory, with the teacher's pixels.
        device: Where resident splits are kept.
        compile_backend: See `ResidentImages`.
        sampling: How often an epoch shows the training images of each class; None for every image once.
        decoding: How large images are decoded for random crops, see `StoredImage`.
        image_cache: Short side of copies of large images that random crops are made from, see `ShrunkImages`; None
            for the images themselves.

    Attributes:
        image_size: Side of the batches in pixels.
        crop_pct: Share of the short side that evaluation keeps (1 for small images).
        crop_mode: What becomes of the longer side in evaluation.
        augmentation: The same with every choice made to suit the images.
        asked_augmentation: The augmentation as it was given.
        reading: What some training images look like, and how their pixels are read.

    Example:
        >>> from hf_icckd import load_image_data
        >>> pipeline = ImagePipeline(load_image_data("digits"), Augmentation(seed=1))
        >>> pipeline.image_size, pipeline.resident, len(pipeline.dataset("train", training=True))
        (8, True, 1438)
    """

    def __init__(
        self,
        data: ImageData,
        augmentation: Augmentation | None = STANDARD,
        *,
        image_size: int | None = None,
        default_size: int = 224,
        max_size: int | None = None,
        crop_pct: float = 0.875,
        interpolation: str = "bilinear",
        crop_mode: CropMode | None = None,
        mean: Channels | None = None,
        teacher: ClassifierSpec | None = None,
        resident_max_bytes: int = RESIDENT_MAX_BYTES,
        device: torch.device | str = "cpu",
        compile_backend: str | None = None,
        sampling: Sampling | None = None,
        decoding: Decoding = "scaled",
        image_cache: int | None = None,
    ):
        for name, size in (("image_size", image_size), ("default_size", default_size), ("max_size", max_size)):
            check_number(name, size, 1)
        if not isinstance(augmentation, Augmentation | None):
            raise ValueError(
                f"augmentation is {augmentation!r}, expected an Augmentation, such as Augmentation(), or None"
            )
        check_number("resident_max_bytes", resident_max_bytes, 0)
        check_number("crop_pct", crop_pct, 0, 1, exclude_low=True)
        if crop_mode not in (None, *CROP_MODES):
            raise ValueError(f"crop_mode is {crop_mode!r}, expected one of {', '.join(CROP_MODES)}, or None")
        if decoding not in get_args(Decoding):
            raise ValueError(f"decoding is {decoding!r}, expected {' or '.join(get_args(Decoding))}")
        self.data, self.interpolation, self.asked_augmentation = data, interpolation, augmentation
        self.device, self.compile_backend = torch.device(device), compile_backend
        self.reading = pixel_reading(data)
        native = SMALL_IMAGE if self.reading.longest is None else self.reading.longest
        small = native <= SMALL_IMAGE
        self.image_size = image_size or (min(native, max_size or native) if small else default_size)
        self.crop_pct = 1.0 if small else crop_pct
        self.crop_mode: CropMode = crop_mode or ("border" if small and not self.reading.square else "center")
        self._mean, self.sampling, self.decoding, self.image_cache = mean, sampling, decoding, image_cache
        self.augmentation = None
        if sampling is not None and data.streamed:
            raise ValueError(
                f"sampling is {sampling.kind!r}, expected all with streaming: how many images of a class a stream has "
                "is not known before it was read; leave --streaming out, or show every image once"
            )
        if augmentation is not None and augmentation.mixes and data.streamed:
            raise ValueError(
                f"mixup is {augmentation.mixup} and cutmix {augmentation.cutmix}, expected 0 with streaming: images "
                "of a stream have no row numbers to pair them by; leave --streaming out, or do without mixing"
            )
        if augmentation is not None:
            self.augmentation = augmentation.for_images(self.image_size, small=small, mirrored=data.mirrored)
        self._stored = self.reading.stored_sizes(native) if small else LARGE
        self._pixels: dict[tuple[str, Framing], torch.Tensor] = {}
        self._kept = KeptBatches(resident_max_bytes)
        self._decide_residence(teacher, resident_max_bytes)

    def _decide_residence(self, teacher: ClassifierSpec | None, resident_max_bytes: int) -> None:
        """Decide whether images are kept in memory: the pixels of student and teacher, or neither."""
        sizes, of_teacher = [self.image_size], ""
        if teacher is not None and (other := self.framing_for(teacher)) != self.framing:
            sizes.append(other.size)
            of_teacher = f", for the teacher {other.size} x {other.size}"
        self._max_bytes = resident_max_bytes
        if self.image_cache is not None:
            none = "" if self.crops_boxes else "no box is cut out of small images, and none without random crops"
            why_none = "images are streamed" if self.data.streamed else none
            check_side(self.image_cache, max(sizes), why_none)
        splits = [self.data.trained, *self.data.splits().values()]
        largest = max(map(len, splits)) * 3 * sum(size**2 for size in sizes)
        self.resident = self._stored.small is not None and largest <= resident_max_bytes and not self.data.streamed
        kept = f"kept in memory on {self.device} ({largest / 2**20:,.0f} MiB for the largest split)"
        logger.info(
            "batches of %d x %d pixels%s, %s",
            self.image_size,
            self.image_size,
            of_teacher,
            kept if self.resident else self._decoding_words(),
        )

    def _decoding_words(self) -> str:
        words = "streamed, decoded as needed" if self.data.streamed else "decoded as needed"
        if not self.crops_boxes:
            return words
        if self.decoding == "scaled":
            words += f" (JPEGs at 1/2 to 1/8 where a crop needs no more, else by {jpeg_decoder()})"
        longest = self.reading.longest or 0
        if self.image_cache is not None:
            words += f", from copies with a short side of {self.image_cache} pixels"
        elif longest >= _PAYS * self.image_size and not self.data.streamed:
            words += f"; --image_cache {2 * self.image_size} would decode images of {longest} pixels only once"
        return words

    def dataset(self, split: str, *, training: bool = False, num_views: int = 1) -> BatchDataset:
        """Return a split as a data set of batches.

        Args:
            split: `train`, `validation` or `test`.
            training: Whether to augment; the rows of the training split are then followed by images without labels,
                or replaced by them, if the data set says so.
            num_views: Views per image.

        Raises:
            ValueError: If there is no such split, or `num_views` is below 1.
        """
        if split not in self.data.splits():
            raise ValueError(f"split is {split!r}, expected one of {', '.join(self.data.splits())}")
        check_number("num_views", num_views, 1)
        images = self._images(split, training, num_views)
        images.split_name = split
        return images

    def _images(self, split: str, training: bool, num_views: int) -> BatchDataset:
        augmentation = self.augmentation if training else None
        rows = self.data.trained if training and split == "train" else self.data.splits()[split]
        decoding: dict[str, Any] = {
            "framing": self.framing,
            "augmentation": augmentation,
            "num_views": num_views,
            "name": split,
            "pixel_range": self.data.pixel_range,
            "stored": self._stored,
            "decoding": self.decoding,
        }
        if isinstance(rows, StreamedSplit):
            return StreamedImages(rows, **decoding)
        images = self._numbered(split, rows, decoding)
        if training and self.sampling is not None:
            images = ResampledImages(images, self.sampling)
        return images if augmentation is None or not augmentation.mixes else MixedImages(images, augmentation)

    def _numbered(self, split: str, rows: Any, decoding: dict[str, Any]) -> BatchDataset:
        labels = torch.from_numpy(labels_of(rows))
        if not self.resident:
            if decoding["augmentation"] is not None and self.image_cache is not None:
                rows = ShrunkImages(rows, self.image_cache, split, self.data.pixel_range, self.decoding)
            images = DecodedImages(rows, labels, **decoding)
            if split == self.evaluation_split and decoding["augmentation"] is None:
                images.kept = self._kept
            return images
        whole_split = rows is self.data.splits()[split]
        load = functools.partial(self._resident_pixels, split) if whole_split else self._trained_pixels
        return ResidentImages(
            load(self.framing),
            labels,
            decoding["augmentation"],
            decoding["num_views"],
            self.compile_backend,
            framing=self.framing,
            stored=self._stored,
            load=load,
        )

    def _resident_pixels(self, split: str, framing: Framing) -> torch.Tensor:
        """All images of a split in one framing, on the device; read once."""
        if (split, framing) not in self._pixels:
            rows = self.data.splits()[split]
            held = sum(pixels.numel() for (name, _), pixels in self._pixels.items() if name == split)
            needed = held + len(rows) * 3 * framing.size**2
            if needed > self._max_bytes:
                raise ValueError(
                    f"the {split} split takes {needed:,} bytes with the pixels of a second classifier, and "
                    f"resident_max_bytes is {self._max_bytes:,}; give the pipeline that classifier, "
                    "ImagePipeline(..., teacher=teacher.spec), which then decodes images as needed"
                )
            self._pixels[split, framing] = load_split(rows, framing, split, self.data.pixel_range).to(self.device)
        return self._pixels[split, framing]

    def _trained_pixels(self, framing: Framing) -> torch.Tensor:
        """Pixels of the rows that are trained on, where some have no label; those of the training split among them."""
        without = self._resident_pixels(UNLABELED, framing)
        if self.data.unlabeled_only:
            return without
        if ("trained", framing) not in self._pixels:
            both = torch.cat([self._resident_pixels("train", framing), without])
            parts = both.split([len(self.data.train), len(without)])
            self._pixels |= {("trained", framing): both, ("train", framing): parts[0], (UNLABELED, framing): parts[1]}
        return self._pixels["trained", framing]

    def framing_for(self, spec: ClassifierSpec) -> Framing:
        """How images are framed to measure a classifier; the pipeline's own framing if no image would differ."""
        return framing_for(spec, self._stored, self.framing)

    def augmentation_for(self, framing: Framing) -> Augmentation | None:
        """The augmentation of training images in a framing: that of the pipeline, with its padding scaled."""
        return self.augmentation and at_size(self.augmentation, self.image_size, framing.size)

    @functools.cached_property
    def framing(self) -> Framing:
        """How images are brought to the size of the batches."""
        fill = (0, 0, 0)
        if self.crop_mode == "border":
            fill = border_colour(self.channel_statistics()[0] if self._mean is None else self._mean)
        return Framing(self.image_size, self.crop_pct, self.interpolation, self.crop_mode, fill)

    def uncommon_choices(self, framing: Framing | None = None) -> dict[str, Any]:
        """What training pixels depend on beside size, scaling and augmentation; empty for the usual choices.

        So what was recorded of those before there were such choices stays valid.

        Args:
            framing: How images are framed; None for the pipeline's own way.
        """
        framing = framing or self.framing
        choices: dict[str, Any] = {"deep": self.reading.deep} if self.reading.deep else {}
        if framing.mode != "center":
            choices |= {"crop_mode": framing.mode, "fill": framing.fill}
        if self.sampling is not None:
            choices["sampling"] = dataclasses.asdict(self.sampling)
        if self.crops_boxes:
            if self.decoding == "scaled":
                choices["decoding"] = f"scaled, {jpeg_decoder()}"
            if self.image_cache is not None:
                choices["image_cache"] = self.image_cache
        return choices

    @property
    def crops_boxes(self) -> bool:
        """Whether training images are boxes of any size out of large images."""
        return self.augmentation is not None and self.augmentation.min_crop_scale is not None

    @property
    def constant(self) -> bool:
        """Whether every epoch has the same training images, with the same pixels."""
        return self.augmentation is None and self.sampling is None

    @property
    def evaluation_split(self) -> str:
        """Split that training is evaluated on, validation if there is one, else test."""
        return "test" if self.data.validation is None else "validation"

    @property
    def keeps_evaluated(self) -> bool:
        """Whether the pixels of the evaluation split stay in memory once they have been read."""
        bytes_of_all = len(self.data.splits()[self.evaluation_split]) * 3 * self.image_size**2
        return self.resident or bytes_of_all <= self._max_bytes

    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation of each RGB channel on the scale 0 to 1, from up to 2,048 training images.

        They are evenly spaced rows of the split, or the first rows of a stream.
        """
        train, rows = some_rows(self.data.train, _STATISTICS_IMAGES)
        if self.crop_mode == "border":  # without the borders, whose colour is the mean

            def without_borders(row: torch.Tensor) -> torch.Tensor:
                image = read_image(train, int(row), "train", self.data.pixel_range)
                scaled = scale_to_longest(image, self.image_size, self.interpolation)
                return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)[None]

            return channel_statistics(without_borders, rows.split(1))
        images = self.dataset("train")
        if self.data.streamed:
            labels = torch.zeros(len(train))
            images = DecodedImages(train, labels, self.framing, pixel_range=self.data.pixel_range)

        def framed(piece: torch.Tensor) -> torch.Tensor:
            return images.__getitems__(BatchKey(0, piece, len(piece)))["pixel_values"].cpu().flatten(0, 1)

        return channel_statistics(framed, rows.split(_STATISTICS_PIECE))
