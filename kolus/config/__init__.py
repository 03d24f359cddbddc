"""The configuration of the daemon: a frozen C{Config}, from a TOML file or from flags.

The fields of the settings are the keys of the file, and with dashes the flags of the command line.
All mistakes are found at once, before anything is made. This package knows settings, backends and
sources; it knows no pool, no front and no reactor.
"""

from kolus.config.flag import FLAGS, Flag
from kolus.config.from_flags import config_from_flags
from kolus.config.mistakes import ConfigError, Mistake, Path
from kolus.config.settings import AdminSettings, Config, GroupSettings, ListenerConfig
from kolus.config.toml_file import read_config

__all__ = [
    "FLAGS",
    "AdminSettings",
    "Config",
    "ConfigError",
    "Flag",
    "GroupSettings",
    "ListenerConfig",
    "Mistake",
    "Path",
    "config_from_flags",
    "read_config",
]
