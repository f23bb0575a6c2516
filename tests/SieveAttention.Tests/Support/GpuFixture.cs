using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>Tests that need a GPU; without one they are skipped with the reason that the library gives.</summary>
[Category("Gpu")]
internal abstract class GpuFixture
{
    private CudaDevice? _device;

    protected CudaDevice Device => _device ?? throw new InvalidOperationException("The fixture has not been set up.");

    [OneTimeSetUp]
    public void OpenDevice()
    {
        if (!CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore($"No GPU: {reason}");
        }

        _device = AttentionDevice.Cuda();
    }

    [OneTimeTearDown]
    public void CloseDevice() => _device?.Dispose();
}
