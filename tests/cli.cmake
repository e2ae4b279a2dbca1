warren_unit(cli_options SOURCES unit/cli/test_options.c DEPS warren_cli)
warren_unit(cli_place SOURCES unit/cli/test_place.c DEPS warren_cli)
warren_unit(cli_token SOURCES unit/cli/test_token.c DEPS warren_cli PkgConfig::CJOSE)
warren_unit(cli_setup SOURCES unit/cli/test_setup.c DEPS warren_cli)
