"""Where settings come from: arguments, the environment, a file, defaults."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, cast

import pytest
from pydantic import Field, SecretStr, ValidationError

from tests.support.settings import MakeApp, build
from tomskit import TomsKitBaseSettings
from tomskit.celery import CeleryConfig
from tomskit.errors import ConfigurationError
from tomskit.redis import RedisConfig
from tomskit.settings import CommaSeparated, Password, Secret, secret
from tomskit.sqlalchemy import DatabaseConfig

Build = Callable[..., TomsKitBaseSettings]


class ShopConfig(TomsKitBaseSettings):
    SHOP_NAME: str = "default"
    SHOP_ITEMS: CommaSeparated = Field(default=["default"])
    SHOP_KEY: Secret = secret(description="A key.")
    SHOP_PIN: Password = secret("", description="A number.")


build_shop = cast("Callable[..., ShopConfig]", ShopConfig)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- the file


def test_a_file_in_the_current_folder_is_read(folder: Path) -> None:
    (folder / ".env").write_text(
        "SHOP_NAME=file\nCELERY_BROKER_REDIS_DB=4\nDB_HOST=db\nREDIS_DB=5\n"
    )
    assert ShopConfig().SHOP_NAME == "file"
    assert CeleryConfig().CELERY_BROKER_REDIS_DB == 4
    assert DatabaseConfig().DB_HOST == "db"
    assert RedisConfig().REDIS_DB == 5


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("SHOP_NAME=file\n")
    monkeypatch.setenv("SHOP_NAME", "environment")
    assert ShopConfig().SHOP_NAME == "environment"
    assert ShopConfig(SHOP_NAME="argument").SHOP_NAME == "argument"


class RenamedConfig(TomsKitBaseSettings):
    renamed: ClassVar[Mapping[str, str]] = {"OLD_SIZE": "SHOP_SIZE"}
    SHOP_SIZE: int = 1


build_renamed = cast("Build", RenamedConfig)


@pytest.mark.parametrize("name", ["SHOP_SIZE", "OLD_SIZE"])
@pytest.mark.filterwarnings("ignore::tomskit.settings.SettingsWarning")
def test_a_value_that_does_not_fit_is_named_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first, last = folder / "first.env", folder / "last.env"
    first.write_text(f"{name}=s3cret\n")
    last.write_text(f"{name}=s3cret\n")
    files = [first, last]

    with pytest.raises(ValidationError, match=f"a whole number; it is set in {last}"):
        build_renamed(_env_file=files)
    last.write_text(f"{name}=\n")
    with pytest.raises(ValidationError, match=f"a whole number; it is set in {first}"):
        build_renamed(_env_file=files)
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(
        ValidationError, match="a whole number; it is set in the environment"
    ) as caught:
        build_renamed(_env_file=files)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        build_renamed(SHOP_SIZE="s3cret", _env_file=files)
    assert "it is set" not in str(caught.value)


def test_a_variable_names_another_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("SHOP_NAME=file\n")
    (folder / "other.env").write_text("SHOP_NAME=other\n")
    monkeypatch.setenv("TOMSKIT_ENV_FILE", "other.env")
    assert ShopConfig().SHOP_NAME == "other"
    monkeypatch.setenv("TOMSKIT_ENV_FILE", "")
    assert ShopConfig().SHOP_NAME == "file"


@pytest.mark.parametrize("name", ["missing.env", "."])
def test_a_variable_that_names_no_file_is_an_error(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOMSKIT_ENV_FILE", name)
    with pytest.raises(ConfigurationError, match="TOMSKIT_ENV_FILE names") as caught:
        ShopConfig()
    assert str(folder) in str(caught.value)


def test_a_subclass_and_an_argument_name_files_of_their_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(ShopConfig, env_file="own.env"): ...

    class Without(ShopConfig, env_file=None): ...

    for name in (".env", "own.env", "argument.env", "variable.env"):
        (folder / name).write_text(f"SHOP_NAME={name}\n")
    monkeypatch.setenv("TOMSKIT_ENV_FILE", "variable.env")
    assert Own().SHOP_NAME == "own.env"
    assert Without().SHOP_NAME == "default"
    assert build_shop(_env_file="argument.env").SHOP_NAME == "argument.env"
    assert build_shop(_env_file=None).SHOP_NAME == "default"


def test_a_byte_order_mark_and_lines_of_others_do_no_harm(folder: Path) -> None:
    class Strict(ShopConfig, extra="forbid"): ...

    (folder / ".env").write_text("SHOP_NAME=file\nOTHER=1\n", encoding="utf-8-sig")
    assert Strict().SHOP_NAME == "file"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('SHOP_NAME=a\n\nSHOP_KEY="hush\nSHOP_PIN=1\n', 3),
        ("export SHOP_KEY\n", 1),
        ("# SHOP_KEY\nSHOP_KEY=hush\nSHOP_KEY: hush\n", 3),
        ("SHOP_KEY='hush' and more\n", 1),
    ],
    ids=["an open quote", "no value", "another notation", "text after a quote"],
)
def test_a_line_of_a_setting_that_cannot_be_read_is_an_error_that_names_it(
    folder: Path, text: str, number: int
) -> None:
    (folder / ".env").write_text(text)

    with pytest.raises(
        ConfigurationError, match=f"a line {number} that does not say SHOP_KEY=v"
    ) as e:
        ShopConfig()

    assert str(folder / ".env") in str(e.value)
    assert "hush" not in str(e.value)


@pytest.mark.filterwarnings("error")
def test_lines_of_others_may_be_anything(folder: Path) -> None:
    (folder / ".env").write_text(
        "if true; then\nOTHER='a\nfi\nSHOP_NAME=a\n# SHOP_KEY\nSHOP_PIN=\n"
    )
    assert ShopConfig().SHOP_NAME == "a"


def test_a_file_that_must_not_be_read_is_an_error_that_names_it() -> None:
    # Only the process itself may read it, whoever asks.
    with pytest.raises(ConfigurationError, match="/proc/self/mem cannot be read: "):
        build_shop(_env_file="/proc/self/mem")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_a_file_in_another_encoding_is_an_error_that_names_it(folder: Path, encoding: str) -> None:
    (folder / ".env").write_text("SHOP_KEY=hüsh\n", encoding=encoding)

    with pytest.raises(ConfigurationError, match="is not text in UTF-8") as caught:
        ShopConfig()

    assert str(folder / ".env") in str(caught.value)
    # Python's own error has all that the file says.
    assert caught.value.__context__ is None
    assert "SHOP_KEY" not in repr(caught.value)


def test_ascii_in_two_bytes_is_another_encoding(folder: Path) -> None:
    (folder / ".env").write_text("SHOP_KEY=hush\n", encoding="utf-16-le")

    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        ShopConfig()


def test_a_folder_called_env_is_no_file(folder: Path) -> None:
    (folder / ".env").mkdir()
    assert ShopConfig().SHOP_NAME == "default"


@pytest.mark.parametrize("given", ["argument", "subclass", "variable", "default"])
def test_the_file_of_a_config_reaches_those_that_it_makes(
    given: str, folder: Path, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    class Mine(CeleryConfig, env_file="my.env"): ...

    file = folder / (".env" if given == "default" else "my.env")
    file.write_text("DB_HOST=db\nREDIS_HOST=redis\n")
    match given:
        case "argument":
            config = build(_env_file="my.env")
        case "subclass":
            config = Mine()
        case _:
            if given == "variable":
                monkeypatch.setenv("TOMSKIT_ENV_FILE", "my.env")
            config = CeleryConfig()
    if given in {"variable", "default"}:
        monkeypatch.delenv("TOMSKIT_ENV_FILE", raising=False)
        (folder / "elsewhere").mkdir()
        monkeypatch.chdir(folder / "elsewhere")
    app = make_app(config)
    assert (app.db_config.DB_HOST, app.redis_config.REDIS_HOST) == ("db", "redis")
    assert app.db_config.SQLALCHEMY_DATABASE_URI == config.SQLALCHEMY_DATABASE_URI


def test_the_property_is_what_the_app_uses(
    monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("DB_HOST", "environment")
    config = CeleryConfig(CELERY_RESULT_BACKEND_TYPE="database")
    assert "environment" in config.SQLALCHEMY_DATABASE_URI
    monkeypatch.setenv("DB_HOST", "too-late")
    app = make_app(config)
    assert app.db_config.SQLALCHEMY_DATABASE_URI == config.SQLALCHEMY_DATABASE_URI
    assert config.CELERY_RESULT_BACKEND.startswith("db+mysql+pymysql://environment:5432/")


# -- empty variables


def test_an_empty_variable_is_as_good_as_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_REDIS_PORT", "")
    monkeypatch.setenv("CELERY_ACCEPT_CONTENT", "")
    monkeypatch.setenv("SHOP_NAME", "")
    (folder / ".env").write_text("CELERY_RESULT_BACKEND_REDIS_PORT=\nSHOP_NAME=file\n")
    config = CeleryConfig()
    assert config.model_fields_set == set()
    assert config == CeleryConfig()
    assert config.CELERY_BROKER_REDIS_PORT == 6379
    assert ShopConfig().SHOP_NAME == "file"


def test_an_empty_variable_never_counts_as_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make_app: MakeApp
) -> None:
    monkeypatch.setenv("CELERY_DB_CHARSET", "")
    monkeypatch.setenv("CELERY_WORKER_REDIS_PASSWORD", "")
    monkeypatch.setenv("DB_HOST", "db")
    monkeypatch.setenv("REDIS_HOST", "redis")
    (folder / ".env").write_text("CELERY_DB_EXTRAS=\nCELERY_WORKER_REDIS_DB=\n")
    app = make_app(CeleryConfig())
    assert (app.db_config.DB_HOST, app.redis_config.REDIS_HOST) == ("db", "redis")


# -- secrets


@pytest.mark.parametrize("value", ["s3cret", SecretStr("s3cret")])
def test_a_password_may_be_text_or_a_secret_and_is_read_as_text(value: str | SecretStr) -> None:
    shop = ShopConfig(SHOP_KEY=value, SHOP_PIN=value)
    assert shop.SHOP_KEY == shop.SHOP_PIN == "s3cret"
    assert isinstance(shop.SHOP_KEY, str)
    assert CeleryConfig(CELERY_BROKER_REDIS_PASSWORD=value).CELERY_BROKER_URL == (
        "redis://:s3cret@localhost:6379/0"
    )
    assert "u:s3cret@" in DatabaseConfig(DB_USERNAME="u", DB_PASSWORD=value).SQLALCHEMY_DATABASE_URI
    assert ":s3cret@" in RedisConfig(REDIS_PASSWORD=value).REDIS_URL


def test_a_password_shows_in_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    shop = ShopConfig(SHOP_KEY="s3cret", SHOP_PIN="s3cret")
    with caplog.at_level(logging.INFO):
        logging.getLogger("shop").info("%s %r %s", shop, shop.SHOP_KEY, shop.model_dump())
    assert "s3cret" not in f"{shop!r} {vars(shop)} {caplog.text}"
    assert "********" in caplog.text


def test_a_password_shows_in_no_json() -> None:
    url = "redis://:s3cret@localhost"
    configs = (
        ShopConfig(SHOP_KEY="s3cret", SHOP_PIN="s3cret"),
        CeleryConfig(CELERY_BROKER_READ_URL=url, CELERY_DB_PASSWORD="s3cret"),
        DatabaseConfig(DB_PASSWORD="s3cret"),
        RedisConfig(REDIS_PASSWORD="s3cret"),
    )

    for config in configs:
        text = config.model_dump_json()
        assert "s3cret" not in text
        assert "********" in text
        assert "s3cret" not in str(config.model_dump(mode="json"))

    assert configs[0].model_dump()["SHOP_KEY"] == "s3cret"
    assert '"SHOP_KEY":null,"SHOP_PIN":""' in ShopConfig().model_dump_json()


@pytest.mark.parametrize("value", [1, [], {"s3cret": 1}, ["s3cret"]])
def test_what_is_no_text_is_no_password(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        build_shop(SHOP_KEY=value, SHOP_PIN=None)
    assert [error["loc"] for error in caught.value.errors()] == [("SHOP_KEY",), ("SHOP_PIN",)]
    assert "s3cret" not in f"{caught.value} {caught.value.errors()}"


# -- lists


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b, ", ["a", "b"]),
        ('["a", "b,c", "d e"]', ["a", "b,c", "d e"]),
        ("[]", []),
    ],
)
def test_a_list_is_separated_by_commas_or_json(
    text: str, items: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_ITEMS", text)
    assert items == ShopConfig().SHOP_ITEMS


@pytest.mark.parametrize(
    "text",
    [
        "a b",
        "a;b",
        "a,,b",
        ",",
        "[a,b]",
        '["a"',
        '"a","b"',
        "('a', 'b')",
        '{"a": 1}',
        "[1]",
        "a\tb",
    ],
)
def test_any_other_notation_of_a_list_is_an_error(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_ITEMS", text)
    with pytest.raises(ValidationError) as caught:
        ShopConfig()
    assert {error["loc"][0] for error in caught.value.errors()} == {"SHOP_ITEMS"}
