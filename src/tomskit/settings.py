"""The base class of every configuration class, and the types of its fields."""

from __future__ import annotations

import warnings
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, overload

from pydantic import (
    AfterValidator,
    AliasChoices,
    AllowInfNan,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import override

from tomskit._internals.pydantic import set_variables, variables_of
from tomskit.defaults import check_fields
from tomskit.failures import failure, without_values
from tomskit.texts import read_json, split_list
from tomskit.variables import (
    DEFAULT_FILE,
    ENV_FILE,
    EnvFile,
    SettingsWarning,
    UnlessFor,
    check_files,
    env_file,
    in_lower_case,
    misspelt,
    rename,
)

__all__ = (
    "CommaSeparated",
    "Concealed",
    "Days",
    "Options",
    "Password",
    "Port",
    "Seconds",
    "SecondsOrZero",
    "Secret",
    "SettingsWarning",
    "TomsKitBaseSettings",
    "UnlessFor",
    "Url",
    "instead_of_parts",
    "secret",
)


class Concealed(str):
    """Text that its ``repr``, and that of what holds it, such as ``app.conf``, does not show."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'********'"

    def get_secret_value(self) -> str:
        """The text; as of pydantic's SecretStr."""
        return str(self)


if TYPE_CHECKING:
    # With these two options Pyrefly and ty check a constructor's arguments as mypy and pyright do
    # without them: no text where a number is expected, no misspelt setting.
    class _Settings(BaseSettings, strict=True, extra="forbid"):
        # Otherwise mypy compares the declaration below with BaseModel's, which has another type.
        model_config: ClassVar[SettingsConfigDict]

else:
    _Settings = BaseSettings


class TomsKitBaseSettings(_Settings):
    """Typed settings that are read from environment variables and from a file.

    A value given to the constructor wins over the environment variable of the same name, that one
    over the file, and the file over the default. The file is ``.env`` in the current folder, or the
    one that the environment variable ``TOMSKIT_ENV_FILE`` names; the argument ``_env_file`` and
    ``model_config`` of a subclass name others. An empty variable counts as not set.

    A value that does not fit raises ``pydantic.ValidationError``, which names the field but never
    contains the value, since that may be a secret. An unknown constructor argument raises it as
    well. An environment variable that no field reads is ignored, with a warning where it looks like
    a setting of CeleryConfig, DatabaseConfig or RedisConfig.

    Raises:
        ConfigurationError: ``TOMSKIT_ENV_FILE`` names a file that does not exist, the file is not
            text in UTF-8, or a line of it names a setting and gives it no value.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        case_sensitive=True,
        # The classes have many fields, and most processes that import one never make an instance.
        defer_build=True,
        # Read as UTF-8, with or without a byte order mark.
        env_file=DEFAULT_FILE,
        # Other programs may have lines of their own there, with extra="forbid" as well.
        dotenv_filtering="only_existing",
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=False,
    )

    _env_file_in_use: EnvFile = PrivateAttr(default=None)

    if not TYPE_CHECKING:  # type checkers see the signature of BaseSettings

        def __init__(self, **values: object) -> None:
            if "_env_file" not in values:
                values["_env_file"] = env_file(type(self).model_config)
            file = values["_env_file"]
            encoding = values.get("_env_file_encoding") or self.model_config["env_file_encoding"]
            check_files(
                file, encoding or "utf-8", {*_argument_names(type(self)), *type(self).renamed}
            )
            _warn(rename(type(self).renamed, values))
            refused: Exception | None = _unknown_arguments(type(self), values)
            if refused is None:
                try:
                    super().__init__(**values)
                except ValidationError as error:
                    refused = without_values(error, type(self), type(self).renamed, values, file)
            # Raised outside of the except clause: inside, the original error would become its
            # `__context__`, and that one's `errors()` contains the values.
            if refused is not None:
                raise refused
            self._env_file_in_use = file

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        check_fields(cls)
        # Of all its bases: one class may have the settings of several.
        bases = [base for base in cls.__bases__ if issubclass(base, TomsKitBaseSettings)]
        if "variable_prefixes" not in vars(cls):
            cls.variable_prefixes = [one for base in bases for one in base.variable_prefixes]
        if "renamed" not in vars(cls):
            cls.renamed = dict(ChainMap(*(dict(base.renamed) for base in bases)))

    variable_prefixes: ClassVar[Sequence[str]] = ()
    """Of variables that look like these settings and are none, such ones are named in a warning."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Earlier names of settings, which still work, and the names that they have now."""

    @classmethod
    def variables_of_others(cls) -> Collection[str]:
        """Variables with one of the `variable_prefixes` that another program reads."""
        return ()

    @classmethod
    def remarks_on(cls, variables: Collection[str]) -> dict[str, str]:
        """What to say of variables that no field reads, where it is not the nearest name."""
        del variables  # looked at by subclasses
        return {}

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of these settings, in the order of their precedence; as of pydantic."""
        for source in (env_settings, dotenv_settings):
            _leave_to_others(cls, source)
            variables = dict(variables_of(source))
            if remarks := rename(cls.renamed, variables):
                set_variables(source, variables)
                _warn(remarks)
        lines = variables_of(dotenv_settings)
        _warn_of_misspelt(cls, {**variables_of(env_settings), **lines})
        # A source looks for each field, whether there is a file or not.
        file = (dotenv_settings,) if lines else ()
        return init_settings, env_settings, *file, file_secret_settings

    @property
    def env_file_in_use(self) -> EnvFile:
        """What this configuration was read from beside the environment."""
        return self._env_file_in_use


def _warn(remarks: Iterable[str]) -> None:
    for text in remarks:
        warnings.warn(text, SettingsWarning, stacklevel=4)


def _leave_to_others(
    settings: type[TomsKitBaseSettings], source: PydanticBaseSettingsSource
) -> None:
    variables = dict(variables_of(source))
    for name, field in settings.model_fields.items():
        for mark in field.metadata:
            text = variables.get(name) if isinstance(mark, UnlessFor) else None
            if not isinstance(mark, UnlessFor) or text is None:
                continue
            if mark.theirs(text):
                del variables[name]
            else:
                warnings.warn(mark.warning, SettingsWarning, stacklevel=2)
    set_variables(source, variables)


def _warn_of_misspelt(settings: type[TomsKitBaseSettings], variables: Collection[str]) -> None:
    if not settings.variable_prefixes:
        return
    known = {ENV_FILE, *_variables(TomsKitBaseSettings)}
    unread = [name for name in variables if name.startswith(tuple(settings.variable_prefixes))]
    meant = misspelt(unread, settings.variable_prefixes, known)
    if settings.model_config.get("case_sensitive"):
        meant |= in_lower_case(variables, settings.variable_prefixes, known)
    remarks = {name: f"did you mean {nearest}?" for name, nearest in meant.items()}
    remarks |= settings.remarks_on([name for name in unread if name not in known])
    if remarks:  # so the others are not looked for in vain: that may take long
        others = settings.variables_of_others()
        remarks = {name: remark for name, remark in remarks.items() if name not in others}
    if remarks:
        listed = ", ".join(f"{name} ({remarks[name]})" for name in sorted(remarks))
        text = f"Nothing reads the environment variable {listed}"
        warnings.warn(text, SettingsWarning, stacklevel=2)


def _variables(settings: type[TomsKitBaseSettings]) -> Iterator[str]:
    yield from _argument_names(settings)
    for subclass in settings.__subclasses__():
        yield from _variables(subclass)


def instead_of_parts(
    settings: TomsKitBaseSettings, url: str, parts: Mapping[str, object], *others: str
) -> None:
    """Let what a URL says take the place of the fields that say parts of it.

    Args:
        settings: Has these fields.
        url: Name of the setting that is the URL.
        parts: The fields' names, and what the URL says.
        others: Names of fields that have no effect beside the URL.
    """
    given = sorted(settings.model_fields_set.intersection({*parts, *others}))
    if given:
        warnings.warn(
            f"Remove either {url} or {', '.join(given)}: the URL is used, and the other "
            f"{'setting has' if len(given) == 1 else 'settings have'} no effect",
            SettingsWarning,
            stacklevel=2,
        )
    # Not as an assignment: nobody set these fields.
    vars(settings).update(parts)


def _unknown_arguments(
    settings: type[TomsKitBaseSettings], values: dict[str, object]
) -> ValidationError | None:
    if settings.model_config.get("extra") != "ignore":
        return None  # pydantic itself accepts or refuses them
    known = set(_argument_names(settings))
    return failure(
        settings.__name__,
        [
            ("extra_forbidden", (name,), f"There is no such setting{_meant(settings, name, known)}")
            for name in sorted(values.keys() - known)
            if not name.startswith("_")  # such as _env_file, an option of BaseSettings itself
        ],
    )


def _meant(settings: type[TomsKitBaseSettings], name: str, known: Collection[str]) -> str:
    prefixes = settings.variable_prefixes or ("",)
    # Celery's own names, such as broker_url, are ours in lower case and without the prefix.
    spelt = (name.upper(), *(prefix + name.upper() for prefix in prefixes))
    nearest = next((one for one in spelt if one in known), None)
    nearest = nearest or misspelt([name], prefixes, known).get(name)
    return f": did you mean {nearest}?" if nearest else ""


def _argument_names(settings: type[TomsKitBaseSettings]) -> Iterator[str]:
    by_name = settings.model_config.get("populate_by_name") or settings.model_config.get(
        "validate_by_name"
    )
    for name, field in settings.model_fields.items():
        if field.validation_alias is None or by_name:
            yield name
        alias = field.validation_alias
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            if isinstance(choice, str):
                yield choice


def _revealed(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _concealed(text: str | None) -> Concealed | None:
    return None if text is None else Concealed(text)


def _hidden(text: str) -> str:
    return "********" if text else text


_HIDDEN: Final = PlainSerializer(_hidden, when_used="json-unless-none")
"""JSON of a configuration is for logs and monitors. What is sent to a process is pickled."""


def _trimmed(text: str | None) -> str | None:
    # A file that holds a secret ends with a line break.
    return None if text is None else text.strip()


CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(split_list)]
"""A list that an environment variable spells ``a,b,c`` or as a JSON list; nothing else."""

Options = Annotated[dict[str, dict[str, object]] | None, NoDecode, BeforeValidator(read_json)]
"""Named groups of options that an environment variable spells as a JSON object."""

Url = Annotated[
    str | None,
    BeforeValidator(_revealed),
    AfterValidator(_trimmed),
    AfterValidator(_concealed),
    _HIDDEN,
    Field(repr=False),
]
"""A URL, which no ``repr`` shows; may be given as a pydantic SecretStr. Space around it is removed."""

Port = Annotated[PositiveInt, Field(le=65535)]
"""The number of a TCP port."""

Days = Annotated[PositiveFloat, AllowInfNan(False)]
"""A number of days, greater than 0."""

Seconds = Annotated[PositiveFloat, AllowInfNan(False)]
"""A length of time."""

SecondsOrZero = Annotated[NonNegativeFloat, AllowInfNan(False)]
"""A length of time, or none."""

if TYPE_CHECKING:
    # Type checkers take what __set__ does for the type of the argument, and what __get__ does for
    # that of the attribute.

    class Secret:
        """A text or a pydantic SecretStr; read as text, which no ``repr`` shows."""

        def __get__(self, instance: object, owner: object) -> str | None: ...
        def __set__(self, instance: object, value: str | SecretStr | None) -> None: ...

    class Password:
        """As Secret, and empty in place of None."""

        def __get__(self, instance: object, owner: object) -> str: ...
        def __set__(self, instance: object, value: str | SecretStr) -> None: ...

else:
    Secret = Annotated[
        str | None,
        BeforeValidator(_revealed),
        AfterValidator(_concealed),
        _HIDDEN,
        Field(repr=False),
    ]
    Password = Annotated[
        str, BeforeValidator(_revealed), AfterValidator(_concealed), _HIDDEN, Field(repr=False)
    ]


@overload
def secret(*, description: str) -> Secret: ...
@overload
def secret(default: str, *, description: str) -> Password: ...
def secret(default: str | None = None, *, description: str) -> object:
    """The default of a field of type Secret or Password, for which ``Field`` has no types."""
    return Field(default=default, description=description)
