from training.augmentation import main

if __name__ == "__main__":
    main()
