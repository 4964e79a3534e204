"""Settings of the gateway."""

from pydantic import Field

from contracts.settings import CommonSettings


class GatewaySettings(CommonSettings):
    """What the gateway admits, and where it listens."""

    host: str = Field("127.0.0.1", min_length=1, description="address the gateway listens on")
    port: int = Field(8000, ge=0, le=65_535, description="port the gateway listens on; 0 for a free one")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="largest request body")
    max_queued: int = Field(256, ge=1, description="jobs that may wait; further ones are answered with 429")
    max_steps: int = Field(150, ge=1, description="most num_inference_steps of a generation")
    max_images: int = Field(8, ge=1, description="most num_images of a generation")
    max_side: int = Field(1024, ge=8, description="largest height and width of an image, in pixels")
