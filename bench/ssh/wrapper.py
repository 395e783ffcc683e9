"""x"""
from bench.ssh.farm import Farm
def compare(farm: Farm) -> None:
    """x"""
