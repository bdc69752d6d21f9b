"""The words of the demo logs: four domains of eight topics, apart enough in meaning that an embedder can tell them apart.

Pure data. An item of a topic is one of its things with one of its details; `praise` and `complaints` are sentences that
reviewers of any of its items may say.
"""

from typing import NamedTuple


class Topic(NamedTuple):
    price: float  # of its typical item
    things: tuple[str, ...]
    details: tuple[str, ...]
    praise: tuple[str, ...]
    complaints: tuple[str, ...]


class Domain(NamedTuple):
    name: str
    type_weights: dict[str, float]  # but for reviews: only reviewers write them
    joint: str  # between thing and detail
    reference: str  # how a review names an item
    family_topics: tuple[str, ...]  # what people turn to with their family
    topics: dict[str, Topic]


OPENINGS = {
    "good": (
        "I am delighted with {it}.",
        "A friend pointed me to {it}, and I am grateful.",
        "I did not expect to love {it} this much.",
        "After two weeks with {it} I am convinced.",
        "I keep coming back to {it}.",
        "Everyone at home agrees about {it}: a real find.",
        "I had high hopes for {it}, and they came true.",
        "Honestly, {it} made my week.",
    ),
    "mixed": (
        "I am in two minds about {it}.",
        "I neither love nor hate {it}.",
        "There is good and bad to say about {it}.",
        "After two weeks with {it} I still can't decide.",
        "I expected a little more from {it}.",
        "Half of us liked {it}, half did not.",
    ),
    "bad": (
        "I am disappointed with {it}.",
        "I regret giving {it} a chance.",
        "I had high hopes for {it}, and they were crushed.",
        "After two weeks with {it} I gave up.",
        "Nobody at home wants anything more to do with {it}.",
        "I expected far better from {it}.",
        "Honestly, {it} ruined my weekend.",
        "I wanted to like {it}, but I could not.",
    ),
}

CLOSINGS = {
    "good": (
        "Highly recommended.",
        "I would choose the same again.",
        "Better than anything else I have tried.",
        "I have already told my friends.",
        "Exactly what I was looking for.",
        "A small joy every time.",
        "Well done to whoever made this.",
        "Worth it from the first day.",
    ),
    "mixed": (
        "Decent, but nothing special.",
        "It may suit somebody else better.",
        "Fine for once, no more.",
        "All right for what it is.",
        "I might try another one next time.",
        "An average experience overall.",
    ),
    "bad": (
        "I can't recommend this to anyone.",
        "A waste of time and money.",
        "Never again.",
        "Please save yourself the trouble.",
        "I have asked for a refund.",
        "The worst choice I made this year.",
        "I am still annoyed about it.",
        "Stay away.",
    ),
}

SHOP = {
    "running": Topic(
        90,
        (
            "trail running shoes", "cushioned road running shoes", "running socks", "hydration running vest", "GPS running watch",
            "lightweight running jacket", "running shorts", "reflective running belt", "running tights", "soft flask for runners",
        ),
        ("for muddy hills", "for marathon training", "for cold winter runs", "for your first ten kilometres"),
        (
            "I ran my longest distance yet without a single sore spot.",
            "My morning run feels easier than it has in months.",
            "I took a minute off my best half marathon.",
        ),
        (
            "I had to stop after two kilometres and walk home.",
            "Everything chafed long before the end of my run.",
            "It fell apart after three short runs.",
        ),
    ),
    "cooking": Topic(
        60,
        (
            "cast iron skillet", "Japanese chef's knife", "enamelled Dutch oven", "carbon steel wok", "bamboo cutting board",
            "stainless steel saucepan", "digital kitchen scale", "crème brûlée torch", "pasta rolling machine", "stick blender",
        ),
        ("for everyday home cooking", "for searing and slow stews", "for a small kitchen", "for ambitious dinner parties"),
        (
            "Dinner tastes better and the kitchen stays cleaner.",
            "My sauces and onions have never turned out so well.",
            "I cook every evening now and enjoy it.",
        ),
        (
            "My dinner burned and the cleaning took an hour.",
            "It rusted after the second wash.",
            "The handle came loose while I was cooking.",
        ),
    ),
    "photography": Topic(
        400,
        (
            "mirrorless camera body", "50 mm portrait lens", "carbon fibre tripod", "camera backpack", "neutral density filter set",
            "wide-angle zoom lens", "off-camera flash", "film camera", "macro lens", "camera strap",
        ),
        ("for landscape photographers", "for street photography", "for low light and night skies", "for wedding photographers"),
        (
            "My pictures are sharp right into the corners.",
            "The photographs from our last trip came out wonderfully.",
            "I caught the sunrise exactly as I saw it.",
        ),
        (
            "All my pictures came out blurred.",
            "It jammed in the middle of a shoot.",
            "The colours in my photographs look dull and wrong.",
        ),
    ),
    "gardening": Topic(
        35,
        (
            "pruning shears", "raised vegetable bed", "tomato seed collection", "drip watering kit", "compost bin",
            "stainless steel garden spade", "peat-free potting soil", "climbing rose", "cold frame greenhouse", "lavender plants",
        ),
        ("for sunny balconies", "for organic vegetable plots", "for heavy clay soil", "for early spring planting"),
        (
            "My tomatoes and roses have doubled in size.",
            "The whole garden looks alive again.",
            "I harvested more than we could eat.",
        ),
        (
            "Every seedling had died within a week.",
            "The plants arrived dry and full of pests.",
            "It broke the first time it touched real soil.",
        ),
    ),
    "board_games": Topic(
        40,
        (
            "cooperative board game", "strategy board game", "family card game", "dice game", "tile-laying game",
            "wooden chess set", "word guessing party game", "escape room puzzle game", "railway board game", "storytelling game",
        ),
        ("for two players", "for ages eight and up", "for long rainy afternoons", "with quick rules and short turns"),
        (
            "The children ask to play another round every night.",
            "We laughed around the table until midnight.",
            "The rules took five minutes and the game stays clever.",
        ),
        (
            "The rules made no sense and pieces were missing.",
            "We were bored after ten minutes of play.",
            "The game was over before anyone could do anything.",
        ),
    ),
    "skincare": Topic(
        28,
        (
            "moisturising face cream", "vitamin C serum", "mineral sunscreen", "gentle cleansing foam", "hyaluronic acid gel",
            "clay face mask", "night repair oil", "exfoliating toner", "eye cream", "lip balm",
        ),
        ("for dry sensitive skin", "for oily skin", "without fragrance", "with plant extracts"),
        (
            "My skin feels soft and the redness is gone.",
            "My face looks rested even after a short night.",
            "It sinks in at once and leaves no greasy film.",
        ),
        (
            "My cheeks turned red and itched for days.",
            "It left a greasy film and a rash on my face.",
            "My skin broke out within two days.",
        ),
    ),
    "baby": Topic(
        55,
        (
            "baby carrier", "folding pushchair", "baby monitor", "organic cotton romper", "wooden stacking toy",
            "night light for the nursery", "feeding bottle set", "baby bath seat", "toddler picture book", "changing bag",
        ),
        ("for newborns", "for travelling with toddlers", "for tired new parents", "for twins"),
        (
            "Our baby sleeps and smiles, and so do we.",
            "Our little one reaches for it every morning.",
            "It made the first months with a newborn much easier.",
        ),
        (
            "Our baby cried every single time.",
            "A small part came off, which is dangerous for a toddler.",
            "It stained in one day and can't be washed.",
        ),
    ),
    "audio": Topic(
        150,
        (
            "noise-cancelling headphones", "vinyl turntable", "bookshelf speakers", "wireless earbuds", "USB studio microphone",
            "headphone amplifier", "portable Bluetooth speaker", "soundbar", "audio interface", "phono preamplifier",
        ),
        ("with deep clean bass", "for home recording", "for commuters who love music", "with warm vintage sound"),
        (
            "I hear details in old records that I never noticed.",
            "The bass is tight and the voices are clear.",
            "The noise of the train disappears and only music remains.",
        ),
        (
            "The left channel crackled and then went silent.",
            "The bass booms and the voices sound like tin.",
            "The connection drops in every second song.",
        ),
    ),
}  # fmt: skip

VIDEO = {
    "italian_cooking": Topic(
        4,
        (
            "handmade tagliatelle", "Neapolitan pizza dough", "risotto alla milanese", "slow Bolognese ragù", "tiramisù",
            "ricotta gnocchi", "focaccia", "carbonara", "minestrone", "lasagne",
        ),
        ("step by step", "in a tiny kitchen", "with a grandmother from Bologna", "in thirty minutes"),
        (
            "I cooked along and the sauce was perfect.",
            "The chef explains every move of the dough.",
            "I could almost smell the basil.",
        ),
        (
            "Half the ingredients are never mentioned.",
            "No Italian would cook like that, and the dish was inedible.",
            "The camera never shows what happens in the pan.",
        ),
    ),
    "space": Topic(
        5,
        (
            "black holes", "the moons of Jupiter", "the first stars", "Mars rovers", "the Voyager probes",
            "supernova explosions", "the James Webb telescope", "dark matter", "the rings of Saturn", "planets around other suns",
        ),
        ("explained by an astronomer", "a documentary", "in one hour", "what we still do not know"),
        (
            "I finally understand how far away all this is.",
            "The images of distant galaxies left me speechless.",
            "The astronomers speak clearly and with wonder.",
        ),
        (
            "The science is wrong and the animations are cheap.",
            "Nothing about the universe that I had not heard at school.",
            "The narrator mixes up stars and planets.",
        ),
    ),
    "yoga": Topic(
        4,
        (
            "morning sun salutations", "yoga for a stiff back", "breathing exercises", "restorative yoga", "a vinyasa flow",
            "hip opening stretches", "balance poses", "yoga before sleep", "chair yoga", "core strength on the mat",
        ),
        ("for complete beginners", "in fifteen minutes", "with a calm teacher", "at the end of a long day"),
        (
            "My back has stopped hurting and I sleep better.",
            "The teacher's voice is calm and every pose is explained.",
            "I felt light and relaxed afterwards.",
        ),
        (
            "I pulled a muscle because no warm-up is shown.",
            "The teacher rushes from pose to pose.",
            "The music is so loud that nobody can relax.",
        ),
    ),
    "football": Topic(
        6,
        (
            "the cup final", "the greatest free kicks", "pressing and counter-attack", "last-minute goals", "the art of the goalkeeper",
            "the women's World Cup", "a relegation battle", "young midfield talents", "the derby", "penalty shoot-outs",
        ),
        ("match highlights", "a tactical analysis", "the full story of the season", "told by the players"),
        (
            "I was on my feet in front of the screen at every goal.",
            "The analysis of the midfield is brilliant.",
            "The atmosphere of the stadium comes right into the room.",
        ),
        (
            "The commentator talks over every goal.",
            "They cut away exactly when the striker shoots.",
            "The replay misses half of the match.",
        ),
    ),
    "crime_series": Topic(
        5,
        (
            "a missing witness", "the harbour murders", "a detective in exile", "the forged will", "the cold case unit",
            "poison in the village", "the last train to Malmö", "an honest thief", "the silent jury", "a body in the marsh",
        ),
        ("a Nordic crime series", "the pilot episode", "a courtroom thriller", "the season finale"),
        (
            "I did not guess the murderer until the last scene.",
            "The detective is wonderfully written and acted.",
            "The suspense kept me awake until two.",
        ),
        (
            "The murderer was obvious after ten minutes.",
            "The plot has holes and the police behave like fools.",
            "The ending explains nothing at all.",
        ),
    ),
    "cartoons": Topic(
        3,
        (
            "the brave little hedgehog", "the dragon who was afraid of fire", "the counting penguins", "the flying bakery",
            "the mole and the moon", "the pirate kittens", "the singing alphabet", "the clumsy robot", "the snail express",
            "the bear's birthday",
        ),
        ("a cartoon for small children", "a sing-along episode", "a bedtime story", "an animated holiday special"),
        (
            "My kids sing the song all day.",
            "The children laughed and learned something, too.",
            "The drawings are lovely and the story is kind.",
        ),
        (
            "My daughter was frightened and cried.",
            "The voices are shrill and the story is silly even for kids.",
            "The children walked away after five minutes.",
        ),
    ),
    "programming": Topic(
        8,
        (
            "Python type hints", "Rust ownership", "SQL window functions", "writing a compiler", "Git branching",
            "unit testing", "Docker containers", "asynchronous JavaScript", "data structures", "Linux shell scripts",
        ),
        ("a hands-on course", "for working developers", "live coding session", "common mistakes and how to fix them"),
        (
            "I used the code at work the very next morning.",
            "The lecturer builds a real program and explains every bug.",
            "The exercises are short and well chosen.",
        ),
        (
            "The code on the screen does not even compile.",
            "The lecturer reads the manual aloud.",
            "The library versions shown are hopelessly outdated.",
        ),
    ),
    "wildlife": Topic(
        5,
        (
            "wolves of the Carpathians", "humpback whales", "an elephant family", "hummingbirds", "coral reef fish",
            "snow leopards", "the emperor penguin", "bees and wild flowers", "the river otter", "gorillas in the mist",
        ),
        ("a nature documentary", "filmed over a whole year", "for the whole family to watch", "close up in slow motion"),
        (
            "The animals are filmed so close that we held our breath.",
            "The whole family learned how these creatures raise their young.",
            "Patient camera work and no needless drama.",
        ),
        (
            "The scenes with animals look staged.",
            "More talking heads than wildlife.",
            "The hunting scenes are far too bloody for children.",
        ),
    ),
}  # fmt: skip

HOME = {
    "lighting": Topic(
        45,
        (
            "smart light bulb", "dimmable ceiling lamp", "motion sensor light", "LED strip", "wireless wall switch",
            "bedside lamp", "garden path light", "colour lamp", "reading lamp", "sunrise wake-up light",
        ),
        ("with warm white light", "controlled by voice", "with evening scenes", "that dims on a schedule"),
        (
            "The living room glows softly every evening.",
            "The light follows us from room to room.",
            "Waking up with slow bright light is a pleasure.",
        ),
        (
            "The light flickers until my eyes hurt.",
            "The lamp turned itself on at three in the morning.",
            "The bulb burned out within a week.",
        ),
    ),
    "heating": Topic(
        120,
        (
            "smart thermostat", "radiator valve", "heat pump controller", "underfloor heating sensor", "pellet stove",
            "window contact for the heating", "boiler timer", "infrared heater", "room thermometer", "ceiling fan",
        ),
        ("that lowers the gas bill", "with a weekly heating plan", "for old radiators", "with frost protection"),
        (
            "Our heating bill fell by a fifth.",
            "The rooms are warm when we come home and never stuffy.",
            "The temperature stays within half a degree.",
        ),
        (
            "We sat in a cold bedroom all week.",
            "The heating ran all night and the bill doubled.",
            "The valve leaks and the radiator stays cold.",
        ),
    ),
    "security": Topic(
        140,
        (
            "doorbell camera", "smart door lock", "outdoor security camera", "window alarm", "burglar alarm siren",
            "garage door sensor", "smoke detector", "home safe", "fingerprint lock", "alarm keypad",
        ),
        ("for rented flats", "with alerts on your phone", "without a subscription", "with a battery for one year"),
        (
            "I can see who stands at the front door from anywhere.",
            "We feel safe when we leave the house empty.",
            "The alarm went off within a second of the test.",
        ),
        (
            "False alarms woke the whole street.",
            "The door stayed locked with us outside in the rain.",
            "The camera missed a stranger right at the door.",
        ),
    ),
    "cleaning": Topic(
        70,
        (
            "robot vacuum cleaner", "microfibre mop", "descaling powder", "window squeegee", "steam cleaner",
            "dishwasher tablets", "stain remover", "laundry detergent", "lint brush", "handheld vacuum",
        ),
        ("for homes with pets", "for hard floors and tiles", "with natural soap", "for stubborn grease and limescale"),
        (
            "The floor shines and the dog hair is gone.",
            "Stains that were years old came off at once.",
            "I spend half the time on cleaning now.",
        ),
        (
            "The floor was dirtier than before.",
            "The stains stayed and the smell is awful.",
            "It scratched our tiles badly.",
        ),
    ),
    "baking": Topic(
        15,
        (
            "sourdough bread recipe", "cinnamon roll recipe", "birthday cake recipe", "rye bread recipe", "lemon tart recipe",
            "chocolate chip cookie recipe", "brioche recipe", "apple strudel recipe", "pretzel recipe", "blueberry muffin recipe",
        ),
        ("with a long cold rise", "to bake with children", "without eggs", "for a Sunday afternoon"),
        (
            "The crumb was soft and the whole house smelled of baking.",
            "The children kneaded the dough and ate every crumb.",
            "The crust came out of the oven golden and crisp.",
        ),
        (
            "The dough never rose and came out like a brick.",
            "Far too much sugar, and the middle stayed raw.",
            "The oven temperature given burned everything.",
        ),
    ),
    "weeknight_dinners": Topic(
        12,
        (
            "chickpea curry recipe", "one-pot pasta recipe", "lentil soup recipe", "vegetable stir-fry recipe", "tray-baked salmon recipe",
            "bean chilli recipe", "chicken and rice recipe", "shakshuka recipe", "ramen recipe", "stuffed pepper recipe",
        ),
        ("ready in twenty minutes", "for a busy weekday", "for four hungry people", "with what is in the cupboard"),
        (
            "Dinner was on the table before the news started.",
            "Spicy, filling and cheap, and there were no leftovers.",
            "Even our fussy eaters wanted a second plate.",
        ),
        (
            "The meal was bland and took twice as long as promised.",
            "We ended up ordering a takeaway.",
            "The vegetables turned to mush.",
        ),
    ),
    "houseplants": Topic(
        25,
        (
            "monstera", "rubber plant", "self-watering pot", "orchid fertiliser", "succulent collection",
            "hanging fern", "plant grow lamp", "moisture meter for pots", "peace lily", "indoor herb garden",
        ),
        ("for shady rooms", "for people who forget to water", "for homes with cats", "for a bright window sill"),
        (
            "New leaves unfold every week.",
            "My window sill has become a small jungle.",
            "Even I have not managed to kill a plant this time.",
        ),
        (
            "The leaves turned yellow and dropped in days.",
            "It came with gnats in the soil.",
            "The roots had rotted before it arrived.",
        ),
    ),
    "kids_room": Topic(
        65,
        (
            "bunk bed", "toy storage shelf", "star projector", "wall stickers with animals", "children's desk",
            "play tent", "growth chart", "washable play rug", "night lamp shaped like a fox", "building block table",
        ),
        ("for toddlers", "for two siblings sharing a room", "made of solid pine", "in soft pastel colours"),
        (
            "Our children play in their room for hours.",
            "Bedtime has become easy since then.",
            "The kids tidy up their toys by themselves now.",
        ),
        (
            "The paint came off in our toddler's mouth.",
            "It tipped over while the children were playing.",
            "Screws were missing and the wood split.",
        ),
    ),
}  # fmt: skip

ADS = {
    "city_breaks": Topic(
        350,
        (
            "a long weekend in Lisbon", "three days in Prague", "a city break in Kraków", "a Christmas market tour in Vienna",
            "a museum weekend in Paris", "a tapas weekend in Seville", "two nights in Copenhagen", "a canal cruise in Amsterdam",
            "a weekend in Istanbul", "a walking tour of Rome",
        ),
        ("with flights included", "with a hotel in the old town", "for late bookers", "by night train"),
        (
            "The hotel was central and the old town lovely.",
            "We walked all day and saw every sight we wanted.",
            "The journey went without a hitch.",
        ),
        (
            "The flight was cancelled and nobody helped.",
            "The hotel was an hour from the city and dirty.",
            "Hidden fees doubled the price of the trip.",
        ),
    ),
    "fitness": Topic(
        40,
        (
            "a gym membership", "personal training sessions", "a home rowing machine", "a spinning class", "adjustable dumbbells",
            "a strength training app", "protein powder", "a boxing course", "kettlebell workouts", "a body composition test",
        ),
        ("free for the first month", "to build muscle", "to get in shape by summer", "with a coach at your side"),
        (
            "I am stronger than I have been in ten years.",
            "The coach corrected every lift with patience.",
            "I lost six kilos and gained real energy.",
        ),
        (
            "The machines were broken and the gym overcrowded.",
            "They kept charging me after I had cancelled the workouts.",
            "I hurt my shoulder because the coach never looked.",
        ),
    ),
    "electric_cars": Topic(
        300,
        (
            "a compact electric car", "an electric family estate", "a wall box charger", "a plug-in hybrid lease",
            "a home battery for your car", "an electric van", "a used electric hatchback", "a fast-charging card",
            "winter tyres for electric cars", "an electric pickup",
        ),
        ("with a 500 km range", "on a three-year lease", "with a test drive this weekend", "with a government bonus"),
        (
            "Silent, quick, and I charge it overnight.",
            "I have not visited a petrol station since.",
            "The range is as promised, even on the motorway.",
        ),
        (
            "The range halves as soon as it gets cold.",
            "The charger broke down and I stood on the motorway.",
            "The battery warning came on in the first week.",
        ),
    ),
    "savings": Topic(
        20,
        (
            "an instant access savings account", "an index fund plan", "a retirement plan", "a credit card", "a mortgage refinancing",
            "a robo-adviser", "a junior savings plan", "a fixed-rate deposit", "a budgeting app", "a travel insurance policy",
        ),
        ("without account fees", "with a fixed interest rate", "opened in ten minutes online", "with a welcome bonus"),
        (
            "My savings finally earn proper interest.",
            "Opening the account took ten minutes and no paper.",
            "The adviser explained the fees honestly.",
        ),
        (
            "The interest rate dropped a week after I signed.",
            "Hidden fees ate up all my interest.",
            "The bank froze my account and never answered.",
        ),
    ),
    "fashion": Topic(
        70,
        (
            "a linen summer dress", "a tailored wool coat", "leather ankle boots", "slim-fit jeans", "a silk scarf",
            "a cashmere jumper", "white canvas sneakers", "a denim jacket", "a pleated skirt", "an evening gown",
        ),
        ("from the new spring collection", "now at half price", "made from organic fabrics", "with free returns"),
        (
            "The fabric is soft and the cut fits perfectly.",
            "I have had compliments on my outfit all week.",
            "The colour is even prettier than in the picture.",
        ),
        (
            "The seams split the first time I wore it.",
            "The fabric is thin and the size is completely off.",
            "The colour ran in the first wash.",
        ),
    ),
    "family_days_out": Topic(
        50,
        (
            "a theme park", "a zoo", "an indoor playground", "a water park", "a children's theatre",
            "a science museum for kids", "a petting farm", "a puppet show", "a dinosaur exhibition", "a treetop walk",
        ),
        ("with a family ticket", "where children go free", "during the school holidays", "with a picnic area"),
        (
            "The children did not want to go home.",
            "A whole day of fun for parents and kids alike.",
            "The staff were lovely with the little ones.",
        ),
        (
            "We queued for two hours with crying children.",
            "Half of the rides were closed that day.",
            "Overpriced, dirty, and nothing for small kids to do.",
        ),
    ),
    "pet_food": Topic(
        30,
        (
            "grain-free dog food", "wet food for cats", "puppy treats", "a cat litter subscription", "dental chews for dogs",
            "senior dog kibble", "a raw feeding box", "kitten starter food", "fish flakes for aquariums", "hamster food",
        ),
        ("delivered to your door", "recommended by vets", "with a free trial bag", "for pets with sensitive stomachs"),
        (
            "My pet's coat shines and the bowl is always empty.",
            "No more stomach trouble after meals.",
            "Our animals come running when they hear the bag.",
        ),
        (
            "My pet was sick after the first meal.",
            "The animals sniffed at the bowl and walked away.",
            "The bag arrived torn and smelled rancid.",
        ),
    ),
    "streaming_music": Topic(
        11,
        (
            "a music streaming plan", "lossless audio streaming", "a family music plan", "a jazz radio subscription",
            "a live concert streaming plan", "a podcast subscription", "an online guitar course", "a classical music channel",
            "a karaoke app", "an opera streaming pass",
        ),
        ("free for three months", "without adverts", "with offline listening", "for students of music"),
        (
            "I discover a new favourite band every week.",
            "The sound is superb and the playlists know me.",
            "I sing and play along every evening.",
        ),
        (
            "The stream stutters in every song.",
            "Half of my favourite albums are missing.",
            "The same three songs play again and again.",
        ),
    ),
}  # fmt: skip

DOMAINS = {
    domain.name: domain
    for domain in (
        Domain(
            name="shop",
            type_weights={"view": 0.56, "click": 0.24, "cart": 0.08, "purchase": 0.06, "rating": 0.06},
            joint=" ",
            reference="the {name}",
            family_topics=("board_games", "baby"),
            topics=SHOP,
        ),
        Domain(
            name="video",
            type_weights={"view": 0.6, "click": 0.3, "rating": 0.1},
            joint=": ",
            reference='the video "{title}"',
            family_topics=("cartoons", "wildlife"),
            topics=VIDEO,
        ),
        Domain(
            name="home",
            type_weights={"view": 0.54, "click": 0.27, "cart": 0.06, "purchase": 0.05, "rating": 0.08},
            joint=" ",
            reference="the {name}",
            family_topics=("baking", "kids_room"),
            topics=HOME,
        ),
        Domain(
            name="ads",
            type_weights={"view": 0.72, "click": 0.2, "cart": 0.03, "purchase": 0.02, "rating": 0.03},
            joint=" ",
            reference="the offer for {name}",
            family_topics=("family_days_out", "city_breaks"),
            topics=ADS,
        ),
    )
}
