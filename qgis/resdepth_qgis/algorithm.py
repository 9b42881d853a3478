"""What all algorithms share: a command of resdepth as an algorithm of Processing."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputDefinition,
    QgsProcessingParameterDefinition,
    QgsProcessingUtils,
)
from qgis.PyQt.QtGui import QIcon

from .command import Command, CommandError, Finished, Parameter, find_command, read_commands, run
from .parameters import Given, Kind, usual_kind

SETTING = "RESDEPTH_COMMAND"
COMMANDS = read_commands()


class CommandAlgorithm(QgsProcessingAlgorithm):
    """A command as an algorithm; each command is a class that states its parameters and its outputs.

    Attributes:
        COMMAND: its name.
        KINDS: by name of parameters, kinds that do not follow from their type.
        ADVANCED: parameters that the dialog hides at first.
        FIXED: values that nobody is asked for.
        OUTPUTS: what comes out besides destinations.
    """

    COMMAND: ClassVar[str]
    KINDS: ClassVar[Mapping[str, Kind]]
    ADVANCED: ClassVar[Collection[str]] = ()
    FIXED: ClassVar[Mapping[str, Any]] = {}
    OUTPUTS: ClassVar[Sequence[type[QgsProcessingOutputDefinition] | Any]] = ()

    def results(self, finished: Finished, made: Made) -> dict[str, Any]:
        """The outputs by key, of a command that has ended.

        Raises:
            CommandError: if it has failed.
        """
        raise NotImplementedError

    def createInstance(self) -> CommandAlgorithm:
        """Another one."""
        return type(self)()

    def name(self) -> str:
        """That of the command."""
        return self.COMMAND

    def displayName(self) -> str:
        """What the toolbox calls it."""
        return self.COMMAND.capitalize()

    def shortDescription(self) -> str:
        """The first paragraph of the command's help."""
        return self._command.help[0]

    def shortHelpString(self) -> str:
        """The command's help, and that of each parameter."""
        asked = [one for one in self._asked if one.help]
        parts = [f"<p>{_as_html(text)}</p>" for text in self._command.help]
        parts += [f"<p><b>{one.title}</b><br>{_as_html(one.help)}</p>" for one in asked]
        return "\n".join(parts)

    def icon(self) -> QIcon:
        """That of the provider."""
        return self.provider().icon()

    def initAlgorithm(self, configuration: Mapping[str, Any] | None = None) -> None:
        """Define parameters and outputs."""
        for one in self._asked:
            for definition in self._kind(one).ask(one):
                definition.setHelp(one.help)
                if one.name in self.ADVANCED:
                    definition.setFlags(definition.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
                self.addParameter(definition)
        for output, key, label in self.OUTPUTS:
            self.addOutput(output(key, label))

    def canExecute(self) -> tuple[bool, str]:
        """Whether the command is there, or why not."""
        try:
            _program()
        except CommandError as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Read what is given, in the thread of the project's layers."""
        given = Given(self, parameters, context)
        values = {one.name: self._kind(one).value(given, one) for one in self._asked}
        self._values = {**values, **self.FIXED}
        return True

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the command.

        Raises:
            QgsProcessingException: with the message of the command, if it fails or is cancelled.
        """

        def progress(title: str, percent: int) -> None:
            feedback.setProgressText(title)
            feedback.setProgress(percent)

        try:
            program, arguments = _program(), self._command.arguments(self._values)
            feedback.pushCommandInfo(shlex.join([program, *arguments]))
            finished = run(
                program, arguments,
                report=feedback.pushInfo, progress=progress, is_cancelled=feedback.isCanceled,
            )  # fmt: skip
            return self.results(finished, Made(self._values, context, feedback))
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error

    @property
    def _command(self) -> Command:
        return COMMANDS[self.COMMAND]

    @property
    def _asked(self) -> list[Parameter]:
        return [one for one in self._command.parameters if one.name not in self.FIXED]

    def _kind(self, one: Parameter) -> Kind:
        return self.KINDS.get(one.name) or usual_kind(one)


class Made:
    """Where results come from, and where they are shown."""

    def __init__(
        self, values: Mapping[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """The values of the command; the context, whose project shows layers; the log."""
        self.values, self.context, self.feedback = values, context, feedback

    def show(self, file: Path, name: str) -> str:
        """Open a raster with its style in the project, if there is one, when all is done; gives its path."""
        if (project := self.context.project()) is not None:
            details = QgsProcessingContext.LayerDetails(name, project, "", _RASTER)
            _STYLES.append(_StyleBeside())  # one for each, as the context deletes them
            details.setPostProcessor(_STYLES[-1])
            self.context.addLayerToLoadOnCompletion(str(file), details)
        return str(file)

    def is_shown(self, file: str) -> bool:
        """Whether the user wants to see a result; forget it then, to show it under another name."""
        shown = self.context.layersToLoadOnCompletion()
        is_wanted = shown.pop(file, None) is not None
        self.context.setLayersToLoadOnCompletion(shown)
        return is_wanted


class _StyleBeside(QgsProcessingLayerPostProcessorInterface):
    """Opens a raster with the style that lies beside it, which Processing does not."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Load the style, if there is one."""
        style = Path(layer.source()).with_suffix(".qml")
        if style.is_file():
            layer.loadNamedStyle(str(style))
            layer.triggerRepaint()


_STYLES: list[_StyleBeside] = []  # QGIS calls them when the algorithm has gone
_RASTER = QgsProcessingUtils.LayerHint.Raster


def json_in(finished: Finished) -> Any:
    """The JSON document that a command has printed."""
    return json.loads(finished.printed)


def _program() -> str:
    return find_command(ProcessingConfig.getSetting(SETTING) or "")


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
