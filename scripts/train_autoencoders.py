from training.autoencoders import main

if __name__ == "__main__":
    main()
