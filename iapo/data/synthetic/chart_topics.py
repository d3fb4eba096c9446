"""What synthetic charts of real sizes are about: pools of labels and the quantities measured for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity.

    Attributes:
        name: Name in lower case, as it stands in a sentence, and in the singular, so that any question fits.
        unit: Empty where it has none.
        whole: Whether it counts things, so that it has no decimals.
    """

    name: str
    unit: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Topic:
    """A pool of labels.

    Attributes:
        noun: Noun for one label, for example `country`.
        plural: Noun for several labels.
        labels: The pool, distinct.
        measures: Quantities that make sense for them.
        consecutive: Whether a chart takes neighbours in the pool's order, as for months.
    """

    noun: str
    plural: str
    labels: tuple[str, ...]
    measures: tuple[Measure, ...]
    consecutive: bool = False


def _pool(names: str) -> tuple[str, ...]:
    return tuple(names.split(", "))


TOPICS: tuple[Topic, ...] = (
    Topic(
        "country",
        "countries",
        _pool(
            "Norway, Brazil, Japan, Kenya, Canada, France, India, Mexico, Egypt, Poland, Chile, "
            "Vietnam, Turkey, Ghana, Peru, Italy, Spain, South Korea, New Zealand, Saudi Arabia, "
            "United Kingdom, Netherlands, Australia, Indonesia, Switzerland"
        ),
        (
            Measure("coffee consumption", "thousand tonnes"),
            Measure("renewable capacity", "GW"),
            Measure("tourism income", "billion USD"),
            Measure("embassy count", whole=True),
        ),
    ),
    Topic(
        "product",
        "products",
        _pool(
            "Laptop, Phone, Tablet, Camera, Monitor, Printer, Speaker, Router, Keyboard, "
            "Headset, Smartwatch, Projector, Game console, Hard drive, Webcam, Microphone"
        ),
        (
            Measure("sales volume", "thousands"),
            Measure("revenue", "million USD"),
            Measure("return count", whole=True),
            Measure("stock level", whole=True),
        ),
    ),
    Topic(
        "month",
        "months",
        _pool("Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov, Dec"),
        (
            Measure("rainfall", "mm"),
            Measure("sign-up count", whole=True),
            Measure("energy use", "kWh"),
            Measure("loan count", whole=True),
        ),
        consecutive=True,
    ),
    Topic(
        "year",
        "years",
        tuple(str(year) for year in range(1990, 2025)),
        (
            Measure("graduate count", whole=True),
            Measure("net profit", "million EUR"),
            Measure("export volume", "thousand tonnes"),
            Measure("patent count", whole=True),
        ),
        consecutive=True,
    ),
    Topic(
        "city",
        "cities",
        _pool(
            "Oslo, Lima, Cairo, Tokyo, Paris, Delhi, Rome, Accra, Quito, Seoul, Madrid, Berlin, "
            "Nairobi, Toronto, Lisbon, Sydney, Buenos Aires, Mexico City, Copenhagen, Los Angeles"
        ),
        (
            Measure("bus route count", whole=True),
            Measure("park area", "square km"),
            Measure("water use", "million litres"),
            Measure("museum count", whole=True),
        ),
    ),
    Topic(
        "department",
        "departments",
        _pool(
            "Sales, Finance, Legal, Design, Support, Research, Marketing, Logistics, Operations, "
            "IT, Procurement, Human Resources"
        ),
        (
            Measure("headcount", whole=True),
            Measure("budget", "thousand USD"),
            Measure("vacancy count", whole=True),
            Measure("training time", "hours"),
        ),
    ),
    Topic(
        "crop",
        "crops",
        _pool(
            "Wheat, Rice, Maize, Barley, Oats, Soybeans, Potatoes, Cotton, Lentils, Sunflower, "
            "Sugar beet, Rye, Millet, Cassava"
        ),
        (
            Measure("harvest", "million tonnes"),
            Measure("storage capacity", "thousand tonnes"),
            Measure("planted area", "thousand ha"),
        ),
    ),
)
