"""The words that names of endpoints are made of: short, easy to read aloud, and unlike each other."""

from __future__ import annotations

from typing import Final

_ADJECTIVES: Final = """
able agile amber ample apt azure bold brave bright brisk broad busy calm candid civil clean clear clever cosy crisp
curly daring deep deft dry eager early easy fair famous fast fine firm fleet fluffy fond frank free fresh frosty
gentle giant glad golden good grand green handy happy hardy hasty hazel honest humble ideal indigo ivory jade jolly
keen kind large late lean level light lilac lively local long loud loyal lucky lunar mellow merry mild mint modest
neat new nimble noble novel odd open orange patient plain polite prime proud quick quiet rapid rare ready regal ripe
robust rosy round royal rural sandy sharp shiny silent silver simple sleek smart smooth snowy sober soft solar solid
spry stable steady sturdy subtle sunny super sure sweet swift tall tame tidy tiny topaz true upbeat urban velvet
vivid warm wary white wide wild windy wise witty young zesty
"""
_ANIMALS: Final = """
adder alpaca ant badger bat bear beaver bee beetle bison boar bobcat buffalo camel canary carp cat cheetah chough
cod condor coot coyote crab crane cricket crow curlew deer dingo dolphin donkey dove dragonfly duck eagle eel egret
elk emu falcon ferret finch firefly flamingo fox frog gannet gecko gerbil gibbon giraffe gnu goat goose grebe grouse
gull hamster hare hawk hedgehog heron hornet horse ibex ibis iguana impala jackal jackdaw jaguar jay kestrel kite
kiwi koala lark lemur leopard limpet linnet lion lizard llama lobster lynx macaw magpie mallard marmot marten merlin
mole moose moth mouse mule newt ocelot octopus okapi oriole osprey ostrich otter owl oyster panda panther parrot
pelican penguin pigeon plover pony puffin puma quail rabbit raven robin rook salmon seal shark sheep shrew skink
sloth snail sparrow squid squirrel starling stoat stork swallow swan tapir teal tern thrush tiger toad toucan trout
turtle viper vole walrus wasp weasel whale wolf wombat wren yak zebra
"""

ADJECTIVES: Final = tuple(_ADJECTIVES.split())
"""Adjectives of one word."""
ANIMALS: Final = tuple(_ANIMALS.split())
"""Animals of one word."""
