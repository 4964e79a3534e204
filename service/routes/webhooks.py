"""`/v1/webhooks/secret`: what a tenant's webhooks are signed with."""

from fastapi import APIRouter, Response

from contracts.schema.fields import Schema
from contracts.state.outbox import Outbox
from service import examples
from service.bodies import BodyRoute
from service.openapi import ANY_BODY, example, problems
from service.resources import With

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=BodyRoute)
UNSTORED = {"Cache-Control": "no-store"}


class WebhookSecret(Schema):
    """A secret of Standard Webhooks."""

    secret: str
    """`whsec_` and base64: every library of Standard Webhooks takes it as it is."""


@router.get("/secret", responses={200: example(examples.SECRET, "the secret"), **problems()})
async def get_webhook_secret(resources: With, answer: Response) -> WebhookSecret:
    """Get the secret that your webhooks are signed with; it is made when it is first asked for, or needed."""
    answer.headers.update(UNSTORED)
    return WebhookSecret(secret=(await Outbox(resources.redis).secrets(resources.queue.client.tenant))[0])


@router.post(
    "/secret",
    responses={200: example(examples.SECRET, "the new secret"), **problems(*ANY_BODY)},
)
async def rotate_webhook_secret(resources: With, answer: Response) -> WebhookSecret:
    """Replace the secret. For a day, webhooks are signed with the old one as well."""
    answer.headers.update(UNSTORED)
    return WebhookSecret(secret=await Outbox(resources.redis).rotate(resources.queue.client.tenant))
