"""Countries and their capitals, and how they are asked about.

Left out: countries whose capital is disputed, shared between cities or being moved.
Names are written in plain ASCII English. Each phrasing is a template; the held-out ones are made of words that the
training phrasings use, in an order that never occurs in training.
"""

from __future__ import annotations

EUROPE_AND_OCEANIA = """
Albania:Tirana Andorra:Andorra_la_Vella Austria:Vienna Belarus:Minsk Belgium:Brussels
Bosnia:Sarajevo Bulgaria:Sofia Croatia:Zagreb Cyprus:Nicosia Czechia:Prague Denmark:Copenhagen
Estonia:Tallinn Finland:Helsinki France:Paris Germany:Berlin Greece:Athens Hungary:Budapest
Iceland:Reykjavik Ireland:Dublin Italy:Rome Latvia:Riga Liechtenstein:Vaduz Lithuania:Vilnius
Luxembourg:Luxembourg Malta:Valletta Moldova:Chisinau Monaco:Monaco Montenegro:Podgorica
Netherlands:Amsterdam Norway:Oslo Poland:Warsaw Portugal:Lisbon Romania:Bucharest Russia:Moscow
Serbia:Belgrade Slovakia:Bratislava Slovenia:Ljubljana Spain:Madrid Sweden:Stockholm
Switzerland:Bern Turkey:Ankara Ukraine:Kyiv Australia:Canberra Fiji:Suva Kiribati:Tarawa
Micronesia:Palikir New_Zealand:Wellington Palau:Ngerulmud Samoa:Apia Tonga:Nukualofa
Tuvalu:Funafuti Vanuatu:Port_Vila Scotland:Edinburgh Wales:Cardiff England:London
"""

AFRICA_AND_NORTH_AMERICA = """
Algeria:Algiers Angola:Luanda Botswana:Gaborone Burkina_Faso:Ouagadougou Cameroon:Yaounde
Chad:Ndjamena Comoros:Moroni Djibouti:Djibouti Egypt:Cairo Eritrea:Asmara Ethiopia:Addis_Ababa
Gabon:Libreville Gambia:Banjul Ghana:Accra Guinea:Conakry Kenya:Nairobi Lesotho:Maseru
Liberia:Monrovia Libya:Tripoli Madagascar:Antananarivo Malawi:Lilongwe Mali:Bamako
Mauritania:Nouakchott Mauritius:Port_Louis Morocco:Rabat Mozambique:Maputo Namibia:Windhoek
Niger:Niamey Nigeria:Abuja Rwanda:Kigali Senegal:Dakar Seychelles:Victoria Somalia:Mogadishu
Sudan:Khartoum Tanzania:Dodoma Togo:Lome Tunisia:Tunis Uganda:Kampala Zambia:Lusaka
Zimbabwe:Harare Bahamas:Nassau Barbados:Bridgetown Belize:Belmopan Canada:Ottawa
Costa_Rica:San_Jose Cuba:Havana Dominica:Roseau Grenada:Saint_George Guatemala:Guatemala_City
Haiti:Port_au_Prince Honduras:Tegucigalpa Jamaica:Kingston Mexico:Mexico_City Nicaragua:Managua
Panama:Panama_City Saint_Lucia:Castries
"""

ASIA_AND_SOUTH_AMERICA = """
Afghanistan:Kabul Armenia:Yerevan Azerbaijan:Baku Bahrain:Manama Bangladesh:Dhaka Bhutan:Thimphu
Brunei:Bandar_Seri_Begawan Cambodia:Phnom_Penh China:Beijing Georgia:Tbilisi India:New_Delhi
Iran:Tehran Iraq:Baghdad Japan:Tokyo Jordan:Amman Kazakhstan:Astana Kuwait:Kuwait_City
Kyrgyzstan:Bishkek Laos:Vientiane Lebanon:Beirut Malaysia:Kuala_Lumpur Maldives:Male
Mongolia:Ulaanbaatar Myanmar:Naypyidaw Nepal:Kathmandu North_Korea:Pyongyang Oman:Muscat
Pakistan:Islamabad Philippines:Manila Qatar:Doha Saudi_Arabia:Riyadh Singapore:Singapore
South_Korea:Seoul Syria:Damascus Tajikistan:Dushanbe Thailand:Bangkok Turkmenistan:Ashgabat
United_Arab_Emirates:Abu_Dhabi Uzbekistan:Tashkent Vietnam:Hanoi Yemen:Sanaa
Argentina:Buenos_Aires Brazil:Brasilia Chile:Santiago Colombia:Bogota Ecuador:Quito
Guyana:Georgetown Paraguay:Asuncion Peru:Lima Suriname:Paramaribo Uruguay:Montevideo
Venezuela:Caracas
"""


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    """The (country, capital) pairs of one table, in its order."""
    rows = (entry.replace("_", " ").split(":") for entry in table.split())
    return tuple((country, capital) for country, capital in rows)


CAPITALS: tuple[tuple[tuple[str, str], ...], ...] = (
    _pairs(EUROPE_AND_OCEANIA),
    _pairs(AFRICA_AND_NORTH_AMERICA),
    _pairs(ASIA_AND_SOUTH_AMERICA),
)
"""(country, capital) pairs in three parts, one for each member."""

HELD_OUT_CAPITAL_QUESTIONS = (
    "Please name the capital city of {}.",
    "Which city is the capital city of {}?",
    "Tell me which city is the capital of {}.",
)
HELD_OUT_CAPITAL_PROSE = "The city of {capital} is the capital of {country}."


def write_capital(template: str, pair: tuple[str, str]) -> str:
    """A sentence about one capital."""
    return template.format(country=pair[0], capital=pair[1])
