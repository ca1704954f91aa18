"""The workflows that one app knows, by name; each app has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.errors import DefinitionError, WorkflowNotRegisteredError
from stepwell.workflow.builder import Workflow
from stepwell.workflow.nodes import ChildWorkflow, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator


class Registry:
    """Plans by workflow name."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans.values())

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def names(self) -> tuple[str, ...]:
        """The registered names, sorted."""
        return tuple(sorted(self._plans))

    def add(self, workflow: object) -> None:
        """Registers a workflow and closes it; raises DefinitionError for a second one of its name."""
        if not isinstance(workflow, Workflow):
            raise DefinitionError(f"A workflow made by durable() can be registered, not {workflow!r}.")
        if workflow.name in self._plans:
            raise DefinitionError(
                f'A workflow "{workflow.name}" is registered already. Known: {", ".join(self.names)}.'
            )
        self._plans[workflow.name] = workflow.close()

    def get_plan(self, workflow: Workflow | str) -> Plan:
        """The plan of that workflow; raises WorkflowNotRegisteredError."""
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        plan = self._plans.get(str(name))
        if plan is None or (isinstance(workflow, Workflow) and workflow.plan is not plan):
            raise WorkflowNotRegisteredError(str(name), self.names)
        return plan

    def check_children(self) -> None:
        """Raises WorkflowNotRegisteredError when a registered workflow has a child that is not."""
        for plan in self:
            for node in plan.nodes:
                if isinstance(node, ChildWorkflow) and node.workflow not in self._plans:
                    raise WorkflowNotRegisteredError(node.workflow, self.names, needed_by=plan.name)
