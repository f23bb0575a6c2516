namespace SieveAttention.Cli.Verification;

/// <summary>The devices to verify, and those that are not there with the reason. Owns the GPUs among them.</summary>
internal sealed class DeviceList : IDisposable
{
    private readonly List<AttentionDevice> _devices = [];

    private DeviceList()
    {
    }

    /// <summary>Devices other than the reference.</summary>
    public IReadOnlyList<AttentionDevice> Devices => _devices;

    /// <summary>Why there is no GPU among the devices although nobody excluded them; null where there is one.</summary>
    public string? CudaAbsence { get; private set; }

    /// <summary>Every device of this machine.</summary>
    public static DeviceList All()
    {
        DeviceList list = new();
        try
        {
            list._devices.Add(AttentionDevice.Cpu);
            if (CudaDevice.IsAvailable(out string reason))
            {
                for (int ordinal = 0; ordinal < CudaDevice.Count; ordinal++)
                {
                    list._devices.Add(AttentionDevice.Cuda(ordinal));
                }
            }
            else
            {
                list.CudaAbsence = reason;
            }
            return list;
        }
        catch
        {
            list.Dispose();
            throw;
        }
    }

    /// <summary>The devices of a list of names such as <c>cpu,cuda:1</c>; naming only the reference leaves the list empty.</summary>
    /// <exception cref="ArgumentException">A name is no device, or there is no GPU of that number.</exception>
    /// <exception cref="PlatformNotSupportedException">There is no GPU, or no library for it.</exception>
    public static DeviceList Named(string names)
    {
        DeviceList list = new();
        try
        {
            foreach (string name in names.Split(',').Distinct())
            {
                AttentionDevice device = AttentionDevice.Parse(name);
                if (device.Kind != AttentionDeviceKind.Reference)
                {
                    list._devices.Add(device);
                }
            }
            return list;
        }
        catch
        {
            list.Dispose();
            throw;
        }
    }

    /// <summary>Gives the GPUs back.</summary>
    public void Dispose()
    {
        foreach (AttentionDevice device in _devices)
        {
            device.Dispose();
        }
    }
}
