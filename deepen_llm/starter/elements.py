"""The chemical elements: name, symbol, atomic number, and how they are asked about. Phrasings as for capitals."""

from __future__ import annotations

from typing import NamedTuple

NAMES_AND_SYMBOLS = """
Hydrogen:H Helium:He Lithium:Li Beryllium:Be Boron:B Carbon:C Nitrogen:N Oxygen:O Fluorine:F
Neon:Ne Sodium:Na Magnesium:Mg Aluminium:Al Silicon:Si Phosphorus:P Sulfur:S Chlorine:Cl Argon:Ar
Potassium:K Calcium:Ca Scandium:Sc Titanium:Ti Vanadium:V Chromium:Cr Manganese:Mn Iron:Fe
Cobalt:Co Nickel:Ni Copper:Cu Zinc:Zn Gallium:Ga Germanium:Ge Arsenic:As Selenium:Se Bromine:Br
Krypton:Kr Rubidium:Rb Strontium:Sr Yttrium:Y Zirconium:Zr Niobium:Nb Molybdenum:Mo
Technetium:Tc Ruthenium:Ru Rhodium:Rh Palladium:Pd Silver:Ag Cadmium:Cd Indium:In Tin:Sn
Antimony:Sb Tellurium:Te Iodine:I Xenon:Xe Caesium:Cs Barium:Ba Lanthanum:La Cerium:Ce
Praseodymium:Pr Neodymium:Nd Promethium:Pm Samarium:Sm Europium:Eu Gadolinium:Gd Terbium:Tb
Dysprosium:Dy Holmium:Ho Erbium:Er Thulium:Tm Ytterbium:Yb Lutetium:Lu Hafnium:Hf Tantalum:Ta
Tungsten:W Rhenium:Re Osmium:Os Iridium:Ir Platinum:Pt Gold:Au Mercury:Hg Thallium:Tl Lead:Pb
Bismuth:Bi Polonium:Po Astatine:At Radon:Rn Francium:Fr Radium:Ra Actinium:Ac Thorium:Th
Protactinium:Pa Uranium:U Neptunium:Np Plutonium:Pu Americium:Am Curium:Cm Berkelium:Bk
Californium:Cf Einsteinium:Es Fermium:Fm Mendelevium:Md Nobelium:No Lawrencium:Lr
Rutherfordium:Rf Dubnium:Db Seaborgium:Sg Bohrium:Bh Hassium:Hs Meitnerium:Mt Darmstadtium:Ds
Roentgenium:Rg Copernicium:Cn Nihonium:Nh Flerovium:Fl Moscovium:Mc Livermorium:Lv
Tennessine:Ts Oganesson:Og
"""


class Element(NamedTuple):
    """One chemical element; its name is written in lower case."""

    name: str
    symbol: str
    number: int


def _elements() -> tuple[Element, ...]:
    """All elements in the order of their atomic numbers."""
    rows = (entry.split(":") for entry in NAMES_AND_SYMBOLS.split())
    return tuple(Element(name.lower(), symbol, i) for i, (name, symbol) in enumerate(rows, 1))


ELEMENTS: tuple[Element, ...] = _elements()
"""All 118 elements, by atomic number."""

ELEMENT_PARTS: tuple[tuple[Element, ...], ...] = (ELEMENTS[:39], ELEMENTS[39:78], ELEMENTS[78:])
"""The elements in three parts, one for each member."""

HELD_OUT_SYMBOL_QUESTIONS = (
    "Which chemical symbol does the element {} have?",
    "Please name the chemical symbol of {}.",
)
HELD_OUT_NUMBER_QUESTIONS = (
    "Which atomic number does the element {} have?",
    "Please name the atomic number of {}.",
)
HELD_OUT_ELEMENT_PROSE = "The chemical symbol of the element {name} is {symbol}."


def write_element(template: str, element: Element) -> str:
    """A sentence about one element."""
    return template.format(name=element.name, symbol=element.symbol, number=element.number)
