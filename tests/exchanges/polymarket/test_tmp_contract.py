from tests.contract import stages
from tests.exchanges.polymarket.local import polymarket
stages.STAGES.clear(); stages.STAGES["polymarket"]=polymarket
from tests.contract.test_gateway_contract import *
